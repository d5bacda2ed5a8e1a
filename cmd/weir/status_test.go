package main

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestNothingAttached(t *testing.T) {
	testutil.RequireRoot(t) // others may not look into /sys/fs/bpf
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status"}, "begin with: weir attach"},
		{[]string{"maps"}, "begin with: weir attach"},
		{[]string{"policy", "list"}, "begin with: weir attach"},
		{[]string{"status", "-o", "json"}, `"attachments": []`},
		{[]string{"maps", "-o", "json"}, `"maps": []`},
		{[]string{"policy", "list", "-o", "json"}, `"policies": []`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			r := weir(t, append(c.args, "--bpffs", "/sys/fs/bpf/weir-test-nothing")...)
			if r.code != exitOK || !strings.Contains(r.out, c.want) || r.err != "" {
				t.Errorf("%+v, want %q", r, c.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	s := newSite(t)
	s.attach(t, testConfig)
	s.send(t, netip.MustParseAddr("192.0.2.77"), 30)

	var v statusView
	s.json(t, &v, "status")
	if len(v.Attachments) != 1 || v.Table == nil {
		t.Fatalf("status: %+v", v)
	}
	counts := v.Attachments[0].Policies[0].Counters
	if counts[policy.VerdictPass].Packets != 10 || counts[policy.VerdictDrop].Packets != 20 {
		t.Errorf("counters: %+v, want 10 passed and 20 dropped", counts)
	}
	if *v.Table != (tableView{Capacity: 1024, Claimed: 2, Owing: 2, Memory: 16384}) {
		t.Errorf("table: %+v", *v.Table)
	}
	out := s.ok(t, "status")
	for _, want := range []string{
		`(?m)^eth0  xdp, native mode, attached$`,
		`(?m)^  program  \d+ weir_xdp, tag [0-9a-f]{16}, loaded .* ago$`,
		`(?m)^  per-client  10/10d +10  enforce +10 +20 +0$`,
		`(?m)^  per-net     15/15d +15  shadow +10 +0 +0$`,
		`(?m)^table  1,024 entries, 16 KiB, for all interfaces$`,
		`(?m)^  owing +2  0.2 %$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
}

// The view of an attachment that is not as it should be, and of figures that stand out.
func TestWriteAttachment(t *testing.T) {
	var out strings.Builder
	p := &page{w: &out}
	writeAttachment(p, &loader.Attachment{
		Interface: "eth7", Namespace: ownNamespace(), Hook: "xdp", State: loader.StateVanished,
		Counters: loader.Counters{
			Unparsed: map[string]uint64{"not_ip": 1234, "truncated": 5, "vlan_depth": 0}, Contended: 7, EventsLost: 8,
			Listed: map[string]loader.Count{"deny": {Packets: 2000}, "ban": {Packets: 3}},
		},
		Lists: policy.Lists{Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
	})
	want := `eth7  xdp, vanished: the interface is gone (weir detach eth7 removes what is left)
  program    0 , tag , loaded 0s ago
  lists      deny has 1 entry, 2,000 packets dropped
  bans       3 packets dropped
  unparsed   truncated 5, not_ip 1,234 (passed, uncharged)
  contended  7 (denied because other CPUs won every compare-and-swap)
  samples    8 lost: nobody read them in time

  no policies: every packet passes that no list denies

`
	if out.String() != want || p.err != nil {
		t.Errorf("got %v:\n%s\nwant:\n%s", p.err, out.String(), want)
	}
}

// Scripts rely on these names.
func TestStatusFields(t *testing.T) {
	b, err := json.Marshal(statusView{Attachments: []attachmentView{}, Table: &tableView{}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"state_dir":"","attachments":[],"table":{"capacity":0,"claimed":0,"owing":0,"memory_bytes":0,"pressure":0},"bans":null,"daemon":null}`
	if string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
}

// What lists and bans did, strangers, and what was paced, at two hooks of one interface.
func TestStatusOfLists(t *testing.T) {
	s := newSite(t)
	config := writeConfig(t, `interfaces: [{name: eth0}, {name: eth0, hook: tc-egress}]
table: {entries: 1024}
deny: [192.0.2.66/32]
policies:
  - {name: per-client, scope: per_ip, limit: 10, window: 10d, match: {direction: ingress}, new_sources: {limit: 2, window: 2d}}
  - {name: upload, scope: global, layer: kernel, limit: 10, window: 1s, action: pace, match: {direction: egress}}
`)
	if r := s.weir(t, "attach", "eth0", "-c", config, "--hook", "tc-egress"); r.code != exitOK || !strings.Contains(r.err, "tc qdisc replace dev eth0 root fq") {
		t.Errorf("attach: %+v, want exit code 0, and to be told that fq is missing", r)
	}
	s.ok(t, "attach", "eth0", "-c", config)
	s.ok(t, "ban", "192.0.2.77", "--for", "1h")
	s.inject(t, netip.MustParseAddr("192.0.2.66"), 3)
	s.inject(t, netip.MustParseAddr("192.0.2.77"), 4)
	for last := range byte(5) {
		s.inject(t, netip.AddrFrom4([4]byte{192, 0, 2, 100 + last}), 1)
	}
	var v statusView
	s.await(t, "the packets to be judged", func() bool {
		v = statusView{}
		s.json(t, &v, "status")
		a := v.Attachments[1]
		return a.Listed["deny"].Packets == 3 && a.Listed["ban"].Packets == 4 && a.Policies[0].Strangers == 3
	})
	if *v.Bans != (banCountsView{IPv4: 1}) || v.Attachments[1].Deny != 1 || v.Attachments[0].Hook != loader.HookTCEgress {
		t.Errorf("status: %+v", v)
	}
	out := s.ok(t, "status")
	for _, want := range []string{
		`(?m)^  lists    deny has 1 entry, 3 packets dropped$`,
		`(?m)^  bans     4 packets dropped$`,
		`(?m)^  per-client  10/10d +10  enforce +2 +3 +0 +3$`,
		`(?m)^  POLICY +RATE +BURST +MODE +PASS +DROP +SHADOW-DROP +PACED$`,
		`(?m)^bans  1 IPv4, 0 IPv6 `,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
}

package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

const corpus = "../../testdata/config/"

func TestPolicyValidate(t *testing.T) {
	const bad = corpus + "bad/many-faults.yaml"
	r := weir(t, "policy", "validate", bad)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.code != exitFailure || len(lines) != 8 || r.err != "weir: "+bad+": 8 errors\n" {
		t.Fatalf("%+v, want 8 errors", r)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, bad+":") {
			t.Errorf("line without its place: %s", line)
		}
	}

	r = weir(t, "policy", "validate", bad, "-o", "json")
	var v validateView
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatal(err)
	}
	first := errorView{bad, 2, 18, "", `unknown field "hok" in interfaces[0]`, `did you mean "hook"?`}
	if r.code != exitFailure || v.Valid || len(v.Errors) != 8 || v.Errors[0] != first {
		t.Errorf("exit code %d, %+v, want %+v first", r.code, v, first)
	}
}

func TestPolicyValidateGood(t *testing.T) {
	path := writeConfig(t, testConfig)
	r := weir(t, "policy", "validate", path)
	want := path + `: 2 policies, valid

POLICY      SCOPE   RATE    BURST  LAYER   MODE     PRIORITY  PREFIX   ON PRESSURE
per-client  per_ip  10/10d     10  kernel  enforce         0  /32 /64  pass
per-net     per_ip  15/15d     15  kernel  shadow          0  /24 /56  pass
`
	if r.code != exitOK || r.out != want || r.err != "" {
		t.Errorf("exit code %d, %s\ngot:\n%s\nwant:\n%s", r.code, r.err, r.out, want)
	}
	r = weir(t, "policy", "validate", path, "-o", "json")
	var v validateView
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || !v.Valid || v.Errors == nil || len(v.Policies) != 2 {
		t.Errorf("%v: %s", err, r.out)
	}
}

// Every file of the corpus gets the verdict that its directory promises.
func TestPolicyValidateCorpus(t *testing.T) {
	for dir, code := range map[string]int{"good/": exitOK, "bad/": exitFailure} {
		files, err := os.ReadDir(corpus + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), ".yaml") {
				continue
			}
			if r := weir(t, "policy", "validate", corpus+dir+f.Name()); r.code != code {
				t.Errorf("%s: %+v, want exit code %d", f.Name(), r, code)
			}
		}
	}
}

func TestPolicyOfAFile(t *testing.T) {
	path := writeConfig(t, testConfig)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"list", []string{"list", "-f", path}, exitOK, "per-net     per_ip  15/15d"},
		{"list none", []string{"list", "-f", writeConfig(t, "policies: []")}, exitOK, "no policies"},
		{"list no file", []string{"list", "-f", path + "x"}, exitFailure, "no such file"},
		{"get", []string{"get", "per-net", "-f", path}, exitOK, "each IPv4 /24, each IPv6 /56"},
		{"get unknown", []string{"get", "nope", "-f", path}, exitFailure, `no policy "nope" is in ` + path + " (there are: per-client, per-net)"},
		{"get what", []string{"get"}, exitUsage, "want one policy"},
		{"validate no file", []string{"validate", path + "x"}, exitFailure, "no such file"},
		{"unknown command", []string{"lst"}, exitUsage, `unknown command "lst"`},
		{"help", nil, exitOK, "Available Commands"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := weir(t, append([]string{"policy"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.out+r.err, c.want) {
				t.Errorf("%+v, want exit code %d and %q", r, c.code, c.want)
			}
		})
	}
}

func TestMergeLoaded(t *testing.T) {
	count := func(n uint64) map[string]map[policy.Verdict]loader.Count {
		return map[string]map[policy.Verdict]loader.Count{"a": {policy.VerdictPass: {Packets: n, Bytes: 60 * n}}}
	}
	eth0, eth1, eth2 := on("eth0", perIP("a", 10)), on("eth1", perIP("a", 10)), on("eth2", perIP("a", 20))
	eth0.Counters.Policies, eth1.Counters.Policies, eth2.Counters.Policies = count(1), count(2), count(4)
	got := mergeLoaded([]loader.Attachment{eth0, eth1, eth2})
	if len(got) != 2 {
		t.Fatalf("%+v, want two meanings of one name", got)
	}
	for i, want := range []struct {
		interfaces string
		packets    uint64
	}{{"eth0 eth1", 3}, {"eth2", 4}} {
		interfaces, pass := strings.Join(got[i].Interfaces, " "), got[i].Counters[policy.VerdictPass]
		if interfaces != want.interfaces || pass.Packets != want.packets || pass.Bytes != 60*want.packets {
			t.Errorf("%s with %+v, want %+v", interfaces, pass, want)
		}
	}
}

func TestPolicyInTheKernel(t *testing.T) {
	s := newSite(t)
	s.attach(t, testConfig)
	s.send(t, netip.MustParseAddr("2001:db8::77"), 12)
	var v policiesView
	s.json(t, &v, "policy", "get", "per-client")
	if len(v.Policies) != 1 || v.Policies[0].Rate != "10/10d" || v.Policies[0].Counters[policy.VerdictDrop].Packets != 2 {
		t.Errorf("policy get: %+v, want 2 dropped", v)
	}
	if out := s.ok(t, "policy", "list"); !strings.Contains(out, "/24 /56  pass         eth0") {
		t.Errorf("policy list:\n%s", out)
	}
	if out := s.ok(t, "policy", "get", "per-client"); !strings.Contains(out, "in force at     eth0 xdp\n") {
		t.Errorf("policy get:\n%s", out)
	}
	if r := weir(t, "__complete", "--bpffs", s.stateDir, "policy", "get", ""); !strings.HasPrefix(r.out, "per-client\nper-net\n") {
		t.Errorf("completion: %+v", r)
	}
}

// What was written of a policy comes back from the kernel, whole.
func TestPolicyInTheKernelIsWhole(t *testing.T) {
	s := newSite(t)
	file := writeConfig(t, `interfaces: [{name: eth0}, {name: eth0, hook: tc-egress}]
table: {entries: 1024}
allow: [192.0.2.1/32]
policies:
  - {name: wide, scope: per_ip, limit: 10, window: 10d, replaces: [upload], new_sources: {limit: 5000, window: 1s}}
  - {name: resolver, scope: per_endpoint, layer: kernel, limit: 10, window: 10d, on_fragment: drop, replaces: [wide],
     match: {protocol: udp, ports: [53, 8000-8100], sources: [192.0.2.0/24], direction: ingress}}
  - {name: upload, scope: global, layer: kernel, unit: bytes, limit: 1000000, window: 1s, action: pace, match: {direction: egress}}
`)
	s.ok(t, "attach", "eth0", "-c", file)
	// What is only for another hook is not here: that is said in full by the file alone.
	var loaded, written policiesView
	s.json(t, &loaded, "policy", "list")
	s.json(t, &written, "policy", "list", "-f", file)
	for _, w := range written.Policies[:2] {
		i := slices.IndexFunc(loaded.Policies, func(l listedPolicy) bool { return l.Name == w.Name })
		if i < 0 {
			t.Fatalf("%s is not loaded: %+v", w.Name, loaded)
		}
		l := loaded.Policies[i]
		l.Counters, l.Interfaces, l.Places = nil, nil, nil
		if diff := cmp.Diff(w, l, cmp.AllowUnexported(listedPolicy{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: -file +kernel:\n%s", w.Name, diff)
		}
	}
	out := s.ok(t, "policy", "list")
	for _, want := range []string{"sources 192.0.2.0/24; protocol udp; ports 53,8000-8100; direction ingress  on fragment drop; replaces wide", "new sources 5,000 in 1s; replaces upload"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	// A policy whose replaces names what is nowhere in force can be edited all the same.
	s.ok(t, "policy", "delete", "resolver")
	if out := s.ok(t, "policy", "list"); strings.Contains(out, "resolver") || !strings.Contains(out, "wide") {
		t.Errorf("after the delete:\n%s", out)
	}
}

// TestPolicyConsistency: list, get, explain and validate tell who shares a count, and nothing of who does not.
func TestPolicyConsistency(t *testing.T) {
	const file = corpus + "good/every-field-redis.yaml"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"policy", "validate", file}, []string{"consistency strict; on store failure share", "consistency leased\n", "consistency reconciled\n"}},
		{[]string{"policy", "list", "-f", file}, []string{"consistency strict; on store failure share"}},
		{[]string{"policy", "list", "-f", file, "-o", "json"}, []string{`"consistency": "strict"`, `"on_store_failure": "share"`, `"consistency": "local"`}},
		{[]string{"policy", "get", "orders", "-f", file}, []string{"strict: each decision asks Redis", "share: this node's share of the limit while Redis is away"}},
		{[]string{"policy", "explain", "--user", "ann", "-c", file}, []string{"100/s, burst 100, strict\n", "1000/min, burst 1,000, leased\n"}},
	} {
		got := weir(t, c.args...)
		for _, want := range c.want {
			if got.code != exitOK || !strings.Contains(got.out, want) {
				t.Errorf("%v: %q is not in\n%s%s", c.args, want, got.out, got.err)
			}
		}
	}
	if got := weir(t, "policy", "get", "health", "-f", file); got.code != exitOK || strings.Contains(got.out, "local") {
		t.Errorf("what every node does for itself is worth a word: %+v", got)
	}
}

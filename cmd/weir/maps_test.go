package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMapsUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		err  string
	}{
		{[]string{"maps", "tabel"}, "want one of table, tags, slots, identity, bans4, bans6, control, events, hot, hot_control, constants, document, sources4, sources6, ports, policy_stats, interface_stats"},
		{[]string{"maps", "table", "identity"}, "want one map"},
		{[]string{"maps", "table", "--limit", "-1"}, "--limit -1"},
		{[]string{"maps", "-o", "yaml"}, "want text or json"},
	} {
		if r := weir(t, c.args...); r.code != exitUsage || !strings.Contains(r.err, c.err) || r.out != "" {
			t.Errorf("%v: %+v, want exit code 2 and %q", c.args, r, c.err)
		}
	}
}

// Debts are compared by their distance from now, which here is just before the clock wraps.
func TestReadEntries(t *testing.T) {
	table, err := bucket.NewTable(make([]byte, 4*bucket.SetSize))
	if err != nil {
		t.Fatal(err)
	}
	limit, err := bucket.NewLimit(1000, 1e9, 10)
	if err != nil {
		t.Fatal(err)
	}
	now := ^bucket.Ticks(0) - bucket.AtNanoseconds(1e6)
	for source, tokens := range []uint64{2, 5, 9, 1} {
		table.Take(uint64(source+1)<<32|uint64(source), &limit, now, tokens, true)
	}
	table.Reset(uint64(4)<<32|3, now) // claimed, and full
	for limit, want := range map[int]string{
		0: "9:9ms 5:5ms 2:2ms",
		2: "9:9ms 5:5ms",
		9: "9:9ms 5:5ms 2:2ms",
	} {
		v := readEntries(table, now, limit)
		var got []string
		for _, e := range v.Entries {
			got = append(got, fmt.Sprintf("%d:%s", e.Used, e.Debt))
		}
		if strings.Join(got, " ") != want || v.Owing != 3 || v.Claimed != 4 || v.Capacity != 16 {
			t.Errorf("limit %d: %v of %+v, want %s", limit, got, v, want)
		}
	}
}

func TestTokenTime(t *testing.T) {
	for _, c := range []struct {
		time uint64
		frac uint32
		want string
	}{
		{256e6, 0, "1ms"},
		{256, 0, "1ns"},
		{8533, 0, "33.332 ns"},
		{256 << 16, 16, "1ns"},
		{128 << 16, 16, "0.5 ns"},
	} {
		if got := tokenTime(loader.PolicyConstants{TokenTime: c.time, FracBits: c.frac}); got != c.want {
			t.Errorf("%d / 2^%d: %s, want %s", c.time, c.frac, got, c.want)
		}
	}
}

func TestMaps(t *testing.T) {
	s := newSite(t)
	s.attach(t, testConfig)
	source := netip.MustParseAddr("192.0.2.77")
	s.send(t, source, 14)

	var list mapsView
	s.json(t, &list, "maps")
	var names []string
	for _, m := range list.Maps {
		names = append(names, m.Name)
		if !strings.HasPrefix(m.Path, s.stateDir) || m.Type == "" || m.MaxEntries == 0 {
			t.Errorf("%+v", m)
		}
	}
	if got := strings.Join(names, " "); got != "table tags slots identity bans4 bans6 control events hot hot_control constants document sources4 sources6 ports interface_stats policy_stats" {
		t.Errorf("maps: %s", got)
	}

	var table tableDump
	s.json(t, &table, "maps", "table", "--limit", "1")
	if table.Owing != 2 || len(table.Entries) != 1 || table.Entries[0].Used != 10 {
		t.Errorf("table: %+v, want one of two entries, with 10 used", table)
	}

	var stats struct {
		Policies []loader.PolicyCPUs `json:"policies"`
	}
	s.json(t, &stats, "maps", "policy_stats")
	var dropped uint64
	for _, cpu := range stats.Policies[0].CPUs {
		dropped += cpu[policy.VerdictDrop].Packets
	}
	if dropped != 4 || stats.Policies[0].Interface != "eth0" {
		t.Errorf("policy_stats: %+v, want 4 dropped", stats)
	}
	for name, want := range map[string]string{
		"constants":       "24h0m0s  15d0h     15      0  coarse  per_ip  requests  shadow",
		"identity":        "layout  2 (this version of weir has 2)",
		"policy_stats":    "eth0 xdp  per-client",
		"interface_stats": "all counters are 0",
		"table":           "1 more owe less",
		"slots":           "CPU  LEASED  LAST DENIED",
		"bans4":           "nothing is banned",
		"bans6":           "nothing is banned",
		"control":         "bans4   0 entries, not asked",
		"events":          "size     256 KiB",
		"hot":             "size     256 KiB",
		"hot_control":     "are not announced: nobody listens",
		"document":        `"name": "per-net"`,
		"sources4":        "no policy and no list names a prefix of this family",
		"sources6":        "no policy and no list names a prefix of this family",
		"ports":           "no policy asks for a port",
	} {
		if out := s.ok(t, "maps", name, "--limit", "1"); !strings.Contains(out, want) {
			t.Errorf("maps %s: no %q in:\n%s", name, want, out)
		}
	}
}

// What policies match, and who is banned, is read back from the maps that the programs ask.
func TestMapsOfMatches(t *testing.T) {
	s := newSite(t)
	s.attach(t, `table: {entries: 1024}
allow: [192.0.2.1/32]
deny: [192.0.2.0/24, "2001:db8::/32"]
policies:
  - {name: web, scope: per_ip, limit: 10, window: 10d, match: {ports: [80, 8000-8100]}}
  - {name: some, scope: per_ip, limit: 10, window: 10d, match: {sources: [198.51.100.0/24]}}
`)
	s.ok(t, "ban", "203.0.113.0/24", "--for", "1h")
	for name, wants := range map[string][]string{
		"sources4": {"192.0.2.0/24     deny   web\n", "192.0.2.1/32     allow  web\n", "198.51.100.0/24         web, some\n"},
		"sources6": {"2001:db8::/32  deny  web\n"},
		"ports":    {"0-79  some\n", "80  web, some\n", "81-7999  some\n", "8000-8100  web, some\n", "8101-65535  some\n"},
		"bans4":    {"203.0.113.0/24  59m"},
		"control":  {"bans4   1 entry, asked", "bans6   0 entries, not asked"},
		"document": {`"192.0.2.1/32"`, `"8000-8100"`},
	} {
		out := s.ok(t, "maps", name)
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("maps %s: no %q in:\n%s", name, want, out)
			}
		}
	}
	var ports struct {
		Attachments []loader.PortRules `json:"attachments"`
	}
	s.json(t, &ports, "maps", "ports")
	if len(ports.Attachments) != 1 || len(ports.Attachments[0].Rules) != 5 || ports.Attachments[0].Rules[3].Last != 8100 {
		t.Errorf("ports: %+v", ports)
	}
	if out := s.ok(t, "maps", "sources4", "--limit", "1"); !strings.Contains(out, "\n2 more are named") {
		t.Errorf("limit:\n%s", out)
	}
}

// Who knows the secret, or a key derived from it, can choose addresses that share a set of the table; who sees the
// hashes of addresses can learn the key.
func TestMapsKeepTheSecret(t *testing.T) {
	s := newSite(t)
	s.attach(t, testConfig)
	secrets := secretWords(t, s)
	s.send(t, netip.MustParseAddr("192.0.2.77"), 30)
	all := [][]string{{"maps"}, {"status"}, {"policy", "list"}, {"policy", "get", "per-client"}, {"bucket", "get", "per-client", "192.0.2.77"}}
	for _, dump := range mapDumps() {
		all = append(all, []string{"maps", dump.name})
	}
	for _, args := range all {
		for _, format := range []string{"text", "json"} {
			out := s.ok(t, append(args, "-o", format)...)
			for _, word := range secrets {
				for _, shape := range []string{fmt.Sprintf("%x", word), fmt.Sprintf("%x", bits.ReverseBytes64(word)), fmt.Sprint(word)} {
					if strings.Contains(out, shape) {
						t.Errorf("%v -o %s prints a secret as %s", args, format, shape)
					}
				}
			}
		}
	}
}

// secretWords are the table's secret, the keys that are derived from it, and what they make of an address: the
// hash, and the part of it that an entry keeps.
func secretWords(t testing.TB, s *site) []uint64 {
	t.Helper()
	identity := readBytes(t, filepath.Join(s.stateDir, "identity"))
	secret := bucket.Secret{binary.NativeEndian.Uint64(identity), binary.NativeEndian.Uint64(identity[8:])}
	words := secret[:]
	for _, name := range []string{"per-client", "per-net"} {
		key := bucket.DeriveKey(secret, string(policy.ScopePerIP), name)
		hash := key.Hash(bucket.NewMask(map[string]uint8{"per-client": 32, "per-net": 24}[name], 64), netip.MustParseAddr("192.0.2.77"))
		words = append(words, key.Offset[0], key.Offset[1], key.Multiplier[0], key.Multiplier[1], hash, hash>>32)
	}
	return words
}

func readBytes(t testing.TB, pin string) []byte {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(pin, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b, err := m.LookupBytes(uint32(0))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

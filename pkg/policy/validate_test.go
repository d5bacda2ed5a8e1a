package policy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// valid is a policy without a fault.
func valid() Policy {
	return Policy{Name: "per-client", Scope: ScopePerIP, Limit: 1000, Window: time.Second}.WithDefaults()
}

func paths(fs []Fault) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Path)
	}
	return out
}

const day = 24 * time.Hour

// TestValidate changes one thing in a valid policy and names the fields that
// are at fault then, with a part of the whole message of the first.
func TestValidate(t *testing.T) {
	type change = func(*Policy)
	for _, c := range []struct {
		name   string
		change change
		paths  []string
		says   string
	}{
		{"nothing", func(*Policy) {}, nil, ""},
		{"name empty", func(p *Policy) { p.Name = "" }, []string{"name"}, "empty"},
		{"name longest", func(p *Policy) { p.Name = strings.Repeat("a", 63) }, nil, ""},
		{"name too long", func(p *Policy) { p.Name = strings.Repeat("a", 64) }, []string{"name"}, "64 bytes"},
		{"name accent", func(p *Policy) { p.Name = "café" }, []string{"name"}, "character"},
		{"name broken", func(p *Policy) { p.Name = "a\xff" }, []string{"name"}, "character"},

		{"limit 0", func(p *Policy) { p.Limit = 0 }, []string{"limit"}, "at least 1"},
		{"limit largest", func(p *Policy) { p.Limit, p.Burst, p.Window = MaxTokens, MaxTokens, 4*time.Hour }, nil, ""},
		{"limit too large", func(p *Policy) { p.Limit, p.Window = MaxTokens+1, 4*time.Hour }, []string{"limit"}, "2^40"},
		{"window 0", func(p *Policy) { p.Window = 0 }, []string{"window"}, "longer than 0"},
		{"window negative", func(p *Policy) { p.Window = math.MinInt64 }, []string{"window"}, "longer than 0"},
		{"limit and window", func(p *Policy) { p.Limit, p.Window = 0, 0 }, []string{"limit", "window"}, ""},

		{"slowest", func(p *Policy) { p.Limit, p.Burst, p.Window = 1, 1, day }, nil, ""},
		{"too slow", func(p *Policy) { p.Limit, p.Burst, p.Window = 1, 1, day+1 }, []string{"limit"},
			"raise limit to at least 2, or shorten window to at most 1d"},
		{"fastest", func(p *Policy) { p.Limit = 100_000_000 }, nil, ""},
		{"too fast", func(p *Policy) { p.Limit = 100_000_001 }, []string{"limit"}, "lower limit to at most 100000000, or"},
		{"too fast in no time", func(p *Policy) { p.Limit, p.Window = 1, 1 }, []string{"limit"}, "; lengthen window to at least 10ns"},
		{"fastest bytes", func(p *Policy) { p.Unit, p.Limit, p.Burst = UnitBytes, 50_000_000_000, 1514 }, nil, ""},
		{"too fast bytes", func(p *Policy) { p.Unit, p.Limit, p.Burst = UnitBytes, 50_000_000_001, 1514 }, []string{"limit"}, "50 GB/s"},

		{"burst 0", func(p *Policy) { p.Burst = 0 }, []string{"burst"}, "remove burst for the default (the limit)"},
		{"burst 0 beside a bad limit", func(p *Policy) { p.Burst, p.Limit = 0, MaxTokens+1 }, []string{"limit", "burst"}, ""},
		{"burst copied from a bad limit", func(p *Policy) { p.Limit, p.Burst = 0, 0 }, []string{"limit"}, ""},
		{"burst too large", func(p *Policy) { p.Burst = MaxTokens + 1 }, []string{"burst"}, "2^40"},
		{"burst below a frame", func(p *Policy) { p.Unit, p.Burst = UnitBytes, 1513 }, []string{"burst"}, "at least 1514"},
		{"burst of a frame", func(p *Policy) { p.Unit, p.Burst = UnitBytes, 1514 }, nil, ""},
		{"slowest refill", func(p *Policy) { p.Limit, p.Window, p.Burst = 10, day, 1000 }, nil, ""},
		{"refill too slow", func(p *Policy) { p.Limit, p.Window, p.Burst = 10, day, 1001 }, []string{"burst"}, "lower burst to at most 1000"},
		{"refill too slow for a frame", func(p *Policy) { p.Unit, p.Limit, p.Window, p.Burst = UnitBytes, 1, day, 1514 },
			[]string{"burst"}, "raise limit to at least 16"},

		{"prefixes 0", func(p *Policy) { p.IPv4Prefix, p.IPv6Prefix = 0, 0 }, []string{"ipv4_prefix", "ipv6_prefix"}, "1 to 32"},
		{"prefixes longest", func(p *Policy) { p.IPv4Prefix, p.IPv6Prefix = 32, 128 }, nil, ""},
		{"prefixes too long", func(p *Policy) { p.IPv4Prefix, p.IPv6Prefix = 33, 129 }, []string{"ipv4_prefix", "ipv6_prefix"}, "got 33"},

		{"prefixes of all", func(p *Policy) { p.Scope, p.IPv4Prefix, p.IPv6Prefix = ScopeGlobal, 24, 48 },
			[]string{"ipv4_prefix", "ipv6_prefix"}, "only scope per_ip"},

		{"new sources", func(p *Policy) { p.NewSources = &NewSources{10, time.Minute} }, nil, ""},
		{"new sources of all", func(p *Policy) { p.Scope, p.NewSources = ScopeGlobal, &NewSources{10, time.Minute} }, []string{"new_sources"}, "scope per_ip"},
		{"new sources 0", func(p *Policy) { p.Mode, p.NewSources = ModeOff, &NewSources{} }, []string{"new_sources.limit", "new_sources.window"}, ""},
		{"new sources too slow", func(p *Policy) { p.Mode, p.NewSources = ModeOff, &NewSources{1, 2 * day} }, []string{"new_sources.limit"}, "slowest"},
		{"new sources too long", func(p *Policy) { p.Mode, p.NewSources = ModeOff, &NewSources{1000, 101 * day} }, []string{"new_sources.window"}, "at most 100d"},

		{"words", func(p *Policy) { p.Unit, p.Mode, p.OnPressure = "bits", "on", "" }, []string{"unit", "mode", "on_pressure"},
			`unknown value "bits"; use one of requests, bytes`},
		{"sources", func(p *Policy) {
			p.Mode, p.Match.Sources = ModeOff, []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("10.0.0.0/8")}
		}, []string{"match.sources[0]", "match.sources[1]"}, ""},
		{"ports", func(p *Policy) { p.Mode, p.Match.Ports = ModeOff, []PortRange{{2, 1}, {1, 1}, {0, 9}} },
			[]string{"match.ports[0]", "match.ports[2]"}, "2-1"},
		{"ports most", func(p *Policy) {
			p.Match.Ports = make([]PortRange, MaxPortRanges)
			fill(p.Match.Ports, PortRange{1, 1})
		}, nil, ""},
		{"ports too many", func(p *Policy) {
			p.Match.Ports = make([]PortRange, MaxPortRanges+1)
			fill(p.Match.Ports, PortRange{1, 1})
		},
			[]string{"match.ports"}, "has 1025 entries; write at most 1024"},
		{"interfaces too many", func(p *Policy) {
			p.Match.Interfaces = make([]string, MaxInterfaces+1)
			fill(p.Match.Interfaces, "eth0")
		},
			[]string{"match.interfaces"}, "1025"},
		{"protocols", func(p *Policy) { p.Match.Protocol = "254" }, nil, ""},
		{"protocol reserved", func(p *Policy) { p.Match.Protocol = "255" }, []string{"match.protocol"}, "unknown protocol"},
		{"ports of sctp", func(p *Policy) { p.Match.Protocol, p.Match.Ports = "132", []PortRange{{1, 1}} }, nil, ""},
		{"ports of icmp", func(p *Policy) { p.Match.Protocol, p.Match.Ports = "icmp", []PortRange{{1, 1}} }, []string{"match.ports"}, "icmp has no ports"},
		{"direction", func(p *Policy) { p.Match.Direction = DirectionEgress }, nil, ""},
		{"direction unknown", func(p *Policy) { p.Match.Direction = "both" }, []string{"match.direction"}, "ingress, egress"},

		{"fragment", func(p *Policy) { p.OnFragment, p.Match.Ports = FragmentDrop, []PortRange{{1, 1}} }, nil, ""},
		{"fragment of an endpoint", func(p *Policy) { p.OnFragment, p.Scope = FragmentDrop, ScopePerEndpoint }, nil, ""},
		{"fragment without ports", func(p *Policy) { p.OnFragment = FragmentDrop }, []string{"on_fragment"}, "match.ports"},
		{"fragment off", func(p *Policy) { p.OnFragment, p.Mode = FragmentDrop, ModeOff }, nil, ""},
		{"fragment unknown", func(p *Policy) { p.OnFragment = "hold" }, []string{"on_fragment"}, "pass, drop"},
		{"pace", func(p *Policy) {
			p.Action, p.Match.Direction, p.Unit, p.Burst = ActionPace, DirectionEgress, UnitBytes, 2000
		}, nil, ""},
		{"pace all", func(p *Policy) { p.Action, p.Match.Direction, p.Scope = ActionPace, DirectionEgress, ScopeGlobal }, nil, ""},
		{"pace what comes in", func(p *Policy) { p.Action = ActionPace }, []string{"action"}, "direction: egress"},
		{"pace strangers", func(p *Policy) {
			p.Action, p.Match.Direction, p.NewSources = ActionPace, DirectionEgress, &NewSources{1, 1000}
		}, []string{"new_sources"}, "could only be dropped"},
		{"action unknown", func(p *Policy) { p.Action = "reject" }, []string{"action"}, "drop, pace"},

		{"texts longest", func(p *Policy) { p.Mode, p.Key = ModeOff, "{ip}"+strings.Repeat("a", MaxText-4) }, nil, ""},
		{"texts too long", func(p *Policy) {
			p.Mode, p.Match.Metadata = ModeOff, map[string]string{"a": strings.Repeat("a", MaxText+1)}
		},
			[]string{"match.metadata"}, "shorten it to at most 1024"},
		{"texts", func(p *Policy) {
			p.Mode, p.Key, p.Headers, p.Match.Interfaces = ModeOff, "\xff", map[string]string{"A": "\xff"}, []string{"\xff"}
			p.Match.Endpoints, p.Match.Users, p.Match.Roles = []string{"/\xff"}, []string{"\xff"}, []string{"\xff"}
			p.Match.Metadata = map[string]string{"\xff": "a"}
		}, []string{"key", "headers", "match.interfaces", "match.endpoints", "match.users", "match.roles", "match.metadata"}, "UTF-8"},

		{"key", func(p *Policy) { p.Key = "{user}" }, []string{"key"}, "scope per_ip makes its own key"},
		{"headers", func(p *Policy) { p.Headers = map[string]string{"A": "b"} }, []string{"headers"}, "remove headers"},
		{"algorithm", func(p *Policy) { p.Algorithm = AlgorithmFixedWindow }, []string{"algorithm"}, "token_bucket"},
		{"kernel user", func(p *Policy) { p.Scope = ScopePerUser }, []string{"scope"}, "layer kernel cannot see"},
		{"kernel method", func(p *Policy) { p.Match.Methods = []string{"GET"} }, []string{"match.methods"}, "layer kernel cannot see"},
		{"l7 port", func(p *Policy) { p.Layer, p.Match.Ports = LayerL7, []PortRange{{1, 1}} }, []string{"match.ports"}, ""},
		{"l7 new sources", func(p *Policy) { p.Layer, p.NewSources = LayerL7, &NewSources{1, 1000} }, []string{"new_sources"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := valid()
			c.change(&p)
			faults := p.Validate()
			if got := paths(faults); !slices.Equal(got, c.paths) {
				t.Fatalf("faults %v, want %v", faults, c.paths)
			}
			if len(faults) > 0 && !strings.Contains(faults[0].Error(), c.says) {
				t.Errorf("got %q, want it to say %q", faults[0].Error(), c.says)
			}
		})
	}
}

// TestValidateL7 is TestValidate for a policy of layer 7.
func TestValidateL7(t *testing.T) {
	many := func(n int, word string) []string { return slices.Repeat([]string{word}, n) }
	for _, c := range []struct {
		name   string
		change func(*Policy)
		paths  []string
		says   string
	}{
		{"nothing", func(*Policy) {}, nil, ""},
		{"everything", func(p *Policy) {
			p.Match = Match{Sources: prefixes("203.0.113.0/24"), Methods: []string{"POST", "M-SEARCH"}, Endpoints: []string{"/a/{b}/*"},
				Users: many(1024, "a"), Roles: []string{"b"}, Metadata: map[string]string{"tenant": "acme*", "a": "*"}}
			p.Headers, p.OnPressure, p.Mode = map[string]string{"X-RateLimit-Policy": "a\tb"}, PressureDrop, ModeShadow
		}, nil, ""},
		{"scopes", func(p *Policy) { p.Scope, p.Key = ScopeCustom, "{user}:{metadata.tenant}" }, nil, ""},
		{"addresses", func(p *Policy) { p.Scope, p.IPv4Prefix = ScopePerIP, 24 }, nil, ""},
		{"bytes", func(p *Policy) { p.Unit, p.Burst = UnitBytes, 2000 }, []string{"unit"}, "layer l7 counts requests"},
		{"window a million years", func(p *Policy) { p.Window = math.MaxInt64 }, []string{"limit"}, "slower than the slowest rate"},
		{"pace", func(p *Policy) { p.Action = ActionPace }, []string{"action"}, "leaky_bucket"},
		{"ports", func(p *Policy) { p.Match.Ports = []PortRange{{1, 1}} }, []string{"match.ports"}, "layer l7 cannot see ports"},
		{"strangers", func(p *Policy) { p.NewSources = &NewSources{1, time.Second} }, []string{"new_sources"}, "layer kernel"},

		{"sliding", func(p *Policy) { p.Algorithm = AlgorithmSlidingWindow }, nil, ""},
		{"sliding, burst", func(p *Policy) { p.Algorithm, p.Burst = AlgorithmSlidingWindow, 1 }, []string{"burst"}, "sliding_window has no burst beside its limit of 1000"},
		{"fixed, burst", func(p *Policy) { p.Algorithm, p.Burst = AlgorithmFixedWindow, 2000 }, []string{"burst"}, "remove burst"},
		{"fixed, most", func(p *Policy) {
			p.Algorithm, p.Limit, p.Burst, p.Window = AlgorithmFixedWindow, MaxCount, MaxCount, time.Hour
		}, nil, ""},
		{"fixed, more", func(p *Policy) {
			p.Algorithm, p.Limit, p.Burst, p.Window = AlgorithmFixedWindow, MaxCount+1, MaxCount+1, time.Hour
		}, []string{"limit"}, "at most 4294967295"},
		{"concurrency, burst", func(p *Policy) { p.Algorithm, p.Burst = AlgorithmConcurrency, 2000 }, []string{"burst"}, "concurrency has no burst"},
		{"shortest lease", func(p *Policy) { p.Algorithm, p.Window = AlgorithmConcurrency, MinLease }, nil, ""},
		{"longest lease", func(p *Policy) { p.Algorithm, p.Window = AlgorithmConcurrency, MaxLease }, nil, ""},
		{"short lease", func(p *Policy) { p.Algorithm, p.Window = AlgorithmConcurrency, MinLease-1 }, []string{"window"}, "100ms or more"},
		{"long lease", func(p *Policy) { p.Algorithm, p.Window = AlgorithmConcurrency, MaxLease+1 }, []string{"window"}, "at most 1d"},
		{"longest queue", func(p *Policy) { p.Algorithm, p.Burst = AlgorithmLeakyBucket, 30_000 }, nil, ""},
		{"queue too long", func(p *Policy) { p.Algorithm, p.Burst = AlgorithmLeakyBucket, 30_001 }, []string{"burst"},
			"a queue of 30001 at 1000/s is longer than 30s; set burst, the length of the queue, to at most 30000"},
		{"default queue too long", func(p *Policy) { p.Algorithm, p.Window = AlgorithmLeakyBucket, time.Hour }, []string{"burst"}, "at most 8"},
		{"no queue fits", func(p *Policy) { p.Algorithm, p.Limit, p.Burst, p.Window = AlgorithmLeakyBucket, 1, 1, time.Minute },
			[]string{"burst"}, "raise limit to at least 2, or shorten window"},

		{"methods", func(p *Policy) { p.Match.Methods = []string{"GET", "get", ""} }, []string{"match.methods[1]", "match.methods[2]"}, "in capitals"},
		{"method too long", func(p *Policy) { p.Match.Methods = []string{strings.Repeat("A", MaxText+1)} }, []string{"match.methods"}, "shorten"},
		{"endpoints", func(p *Policy) { p.Match.Endpoints = []string{"/a", "/{", "b"} }, []string{"match.endpoints[1]", "match.endpoints[2]"}, "not closed"},
		{"endpoint too long", func(p *Policy) { p.Match.Endpoints = []string{"/" + strings.Repeat("a", MaxText)} }, []string{"match.endpoints"}, "shorten"},
		{"names", func(p *Policy) { p.Match.Users, p.Match.Roles = []string{""}, []string{"a", ""} }, []string{"match.users[0]", "match.roles[1]"}, "empty"},
		{"metadata", func(p *Policy) { p.Match.Metadata = map[string]string{"": "a", "b": "", "c": "*d", "e": "f*"} },
			[]string{"match.metadata", `match.metadata["b"]`, `match.metadata["c"]`}, "empty key"},
		{"too many", func(p *Policy) {
			p.Match.Methods, p.Match.Endpoints, p.Match.Users, p.Match.Roles = many(1025, "A"), many(1025, "/"), many(1025, "a"), many(1025, "a")
			p.Match.Metadata = map[string]string{}
			for i := range 1025 {
				p.Match.Metadata[fmt.Sprint(i)] = "*"
			}
		}, []string{"match.methods", "match.endpoints", "match.users", "match.roles", "match.metadata"}, "has 1025 entries; write at most 1024"},

		{"key of another scope", func(p *Policy) { p.Key = "{user}" }, []string{"key"}, "scope per_user makes its own key"},
		{"no key", func(p *Policy) { p.Scope = ScopeCustom }, []string{"key"}, "needs a key"},
		{"bad key", func(p *Policy) { p.Scope, p.Key = ScopeCustom, "{usr}" }, []string{"key"}, `unknown field "usr" at byte 1; use one of user, role`},

		{"header names", func(p *Policy) {
			p.Headers = map[string]string{"content-LENGTH": "1", "Connection": "close", "Retry-After": "1", "RateLimit": "1", "Set-Cookie": "a", "Grpc-Status": "0",
				"X-A": "b", "a b": "c"}
		}, []string{`headers["Connection"]`, `headers["Grpc-Status"]`, `headers["RateLimit"]`, `headers["Retry-After"]`, `headers["Set-Cookie"]`, `headers["a b"]`,
			`headers["content-LENGTH"]`}, "belongs to the connection"},
		{"header twice", func(p *Policy) { p.Headers = map[string]string{"X-A": "1", "x-a": "2"} }, []string{`headers["x-a"]`}, `is "X-A" in other letters`},
		{"header injection", func(p *Policy) { p.Headers = map[string]string{"A": "b\r\nC: d", "B": "\x00", "C": "\n", "D": "é"} },
			[]string{`headers["A"]`, `headers["B"]`, `headers["C"]`, `headers["D"]`}, "control character"},
		{"headers too many", func(p *Policy) {
			p.Headers = map[string]string{}
			for i := range MaxHeaders + 1 {
				p.Headers[fmt.Sprint("X-", i)] = "a"
			}
		}, []string{"headers"}, "has 33 entries; write at most 32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := valid()
			p.Scope, p.Layer = ScopePerUser, LayerL7
			c.change(&p)
			faults := p.Validate()
			if got := paths(faults); !slices.Equal(got, c.paths) {
				t.Fatalf("faults %v, want %v", faults, c.paths)
			}
			if len(faults) > 0 && !strings.Contains(faults[0].Error(), c.says) {
				t.Errorf("got %q, want it to say %q", faults[0].Error(), c.says)
			}
		})
	}
}

func fill[T any](values []T, v T) {
	for i := range values {
		values[i] = v
	}
}

func TestInterfaceNames(t *testing.T) {
	for name, want := range map[string]bool{
		"eth0": true, "br-lan.10": true, "...": true, "exactly15bytes.": true, "é": true,
		"": false, ".": false, "..": false, "sixteen-bytes-xx": false, "a/b": false, "a b": false, "a:1": false, "a\tb": false, "a\x00": false,
	} {
		if got := ValidInterfaceName(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

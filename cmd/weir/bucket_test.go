package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestParseSource(t *testing.T) {
	for _, c := range []struct{ key, want, err string }{
		{"203.0.113.7", "203.0.113.7", ""},
		{"2001:db8::1", "2001:db8::1", ""},
		{"::ffff:203.0.113.7", "203.0.113.7", ""},
		{"203.0.113.0/24", "", "want an IPv4 or IPv6 address"},
		{"example.org", "", "want an IPv4 or IPv6 address"},
		{"", "", "want an IPv4 or IPv6 address"},
		{"fe80::1%eth0", "", "want fe80::1"},
	} {
		got, err := parseSource(c.key)
		switch {
		case c.err == "" && (err != nil || got.String() != c.want):
			t.Errorf("parseSource(%q) = %v, %v, want %s", c.key, got, err, c.want)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("parseSource(%q) = %v, want %q", c.key, err, c.err)
		}
	}
}

func TestParseBucketKey(t *testing.T) {
	endpoint := policy.Policy{Name: "e", Scope: policy.ScopePerEndpoint, Layer: policy.LayerKernel}
	global := policy.Policy{Name: "g", Scope: policy.ScopeGlobal, Layer: policy.LayerKernel}
	nets := policy.Policy{Name: "n", Scope: policy.ScopePerIP, IPv4Prefix: 24, IPv6Prefix: 64}
	for _, c := range []struct {
		p         policy.Policy
		text      string
		want, err string
		key       loader.Key
	}{
		{endpoint, "udp/53", "udp/53", "", loader.Key{Protocol: 17, Port: 53}},
		{endpoint, "17/53", "udp/53", "", loader.Key{Protocol: 17, Port: 53}},
		{endpoint, "icmp", "icmp", "", loader.Key{Protocol: 1}},
		{endpoint, "200", "200", "", loader.Key{Protocol: 200}},
		{endpoint, "udp", "", "want udp/53", loader.Key{}},
		{endpoint, "icmp/8", "", "has no ports: want icmp", loader.Key{}},
		{endpoint, "udp/65536", "", "want a port from 0 to 65535", loader.Key{}},
		{endpoint, "udp/", "", "want a port from 0 to 65535", loader.Key{}},
		{endpoint, "192.0.2.1", "", "policy e has a bucket for each protocol and local port: want udp/53", loader.Key{}},
		{global, "all", "all", "", loader.Key{}},
		{global, "-", "all", "", loader.Key{}},
		{global, "192.0.2.1", "", "policy g is global, and has one bucket: want all, or -", loader.Key{}},
		{nets, "192.0.2.7", "192.0.2.0/24 (for 192.0.2.7)", "", loader.Key{Source: netip.MustParseAddr("192.0.2.7")}},
		{nets, "all", "", "want an IPv4 or IPv6 address", loader.Key{}},
	} {
		got, err := parseBucketKey(c.p, c.text)
		switch {
		case c.err == "" && (err != nil || got.String() != c.want || got.Key != c.key):
			t.Errorf("%s of %s: %+v (%s), %v, want %s", c.text, c.p.Scope, got, got, err, c.want)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || !errors.Is(err, errUsage)):
			t.Errorf("%s of %s: %v, want %q", c.text, c.p.Scope, err, c.err)
		}
	}
}

func TestBucketPrefix(t *testing.T) {
	p := policy.Policy{IPv4Prefix: 24, IPv6Prefix: 56}
	for source, want := range map[string]string{
		"203.0.113.77":              "203.0.113.0/24",
		"2001:db8:aaaa:bbcc::1":     "2001:db8:aaaa:bb00::/56",
		"2001:db8:aaaa:bbff:1:2::3": "2001:db8:aaaa:bb00::/56",
	} {
		if got := bucketPrefix(p, netip.MustParseAddr(source)); got.String() != want {
			t.Errorf("%s: %s, want %s", source, got, want)
		}
	}
}

// on is an attachment with policies.
func on(iface string, policies ...policy.Policy) loader.Attachment {
	return onHook(iface, loader.HookXDP, policies...)
}

func onHook(iface string, hook loader.Hook, policies ...policy.Policy) loader.Attachment {
	a := loader.Attachment{Interface: iface, Hook: hook, Namespace: ownNamespace(), Mode: loader.ModeNative, State: loader.StateAttached}
	for _, p := range policies {
		a.Policies = append(a.Policies, loader.LoadedPolicy{Policy: p})
	}
	return a
}

// ownNamespace is 0, which no namespace is, if it can't be told; a comparison fails then.
func ownNamespace() uint64 {
	own, _ := loader.OwnNamespace()
	return own
}

func perIP(name string, limit uint64) policy.Policy {
	return policy.Policy{Name: name, Scope: policy.ScopePerIP, Limit: limit, Window: time.Second}.WithDefaults()
}

func TestFindPolicy(t *testing.T) {
	shadow := perIP("same", 10)
	shadow.Mode = policy.ModeShadow
	all := []loader.Attachment{
		on("eth0", perIP("same", 10), perIP("other", 10)),
		onHook("eth0", loader.HookTCIngress, perIP("ways", 10)), on("eth0", perIP("ways", 10)), onHook("eth0", loader.HookTCEgress, perIP("ways", 10)),
		on("eth1", shadow, perIP("other", 20)),
		{Interface: "eth1", Namespace: 7, Policies: []loader.LoadedPolicy{{Policy: perIP("third", 10)}}},
	}
	for _, c := range []struct {
		name, policy string
		at           placeChoice
		want         []string
		err          string
	}{
		{"shared, though one only watches", "same", placeChoice{}, []string{"eth0", "eth1"}, ""},
		{"of one interface", "same", placeChoice{iface: "eth1"}, []string{"eth1"}, ""},
		{"two meanings", "other", placeChoice{}, nil, "policy other is 10/s with a burst of 10 on eth0, and 20/s with a burst of 20 on eth1 (choose one with --interface)"},
		{"one of two meanings", "other", placeChoice{iface: "eth1"}, []string{"eth1"}, ""},
		{"on another interface", "same", placeChoice{iface: "eth9"}, nil, `policy "same" is not loaded there (it is on: eth0 for ingress, eth1 for ingress)`},
		{"the other way", "same", placeChoice{direction: "egress"}, nil, `policy "same" is not loaded there (it is on: eth0 for ingress, eth1 for ingress)`},
		{"both ways", "ways", placeChoice{}, nil, "policy ways has other buckets for ingress, on eth0, than for egress, on eth0 (choose with --direction)"},
		{"one of both ways", "ways", placeChoice{direction: "egress"}, []string{"eth0"}, ""},
		{"two hooks of one way", "ways", placeChoice{direction: "ingress"}, []string{"eth0"}, ""},
		{"in another namespace", "third", placeChoice{}, []string{"eth1@7"}, ""},
		{"of one in another namespace", "third", placeChoice{iface: "eth1@7"}, []string{"eth1@7"}, ""},
		{"unknown", "nope", placeChoice{}, nil, `no policy "nope" is loaded (there are: same, other, ways, third)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, interfaces, err := findPolicy(all, c.policy, c.at)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("error %q, want %q", err, c.err)
				}
				return
			}
			if err != nil || p.Name != c.policy || strings.Join(interfaces, " ") != strings.Join(c.want, " ") {
				t.Errorf("%+v on %v, %v, want it on %v", p, interfaces, err, c.want)
			}
		})
	}
}

func TestBucket(t *testing.T) {
	s := newSite(t)
	s.attach(t, testConfig)
	source := netip.MustParseAddr("192.0.2.77")
	s.send(t, source, 4)

	var v bucketView
	s.json(t, &v, "bucket", "get", "per-client", source.String())
	if !v.Found || v.Tokens != 6 || v.Burst != 10 || *v.Used != 4 || v.Next != 0 || v.Full <= 0 || v.Bucket != "192.0.2.77/32" {
		t.Errorf("bucket get: %+v, want 6 of 10 tokens", v)
	}
	s.send(t, source, 26)
	s.json(t, &v, "bucket", "get", "per-client", source.String())
	if v.Tokens != 0 || *v.Used != 10 || v.Next <= 0 || v.Next > 24*time.Hour {
		t.Errorf("empty bucket: %+v, want no token for most of a day", v)
	}
	// Another address of the network, which has the policy's one bucket.
	out := s.ok(t, "bucket", "get", "per-net", "192.0.2.200")
	for _, want := range []string{"192.0.2.0/24 (for 192.0.2.200)", "tokens      5 of 15", "next token  there is one", "on eth0"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}

	var reset resetView
	s.json(t, &reset, "bucket", "reset", "per-client", source.String())
	if reset.Before != 0 || reset.Tokens != 10 || !reset.Found {
		t.Errorf("bucket reset: %+v, want 10 tokens instead of 0", reset)
	}
	s.send(t, source, 10)
	s.json(t, &v, "bucket", "get", "per-client", source.String())
	if v.Tokens != 0 || *v.Used != 20 {
		t.Errorf("after the reset and 10 packets: %+v, want them admitted", v)
	}
	if out := s.ok(t, "bucket", "reset", "per-client", "2001:db8::1"); !strings.Contains(out, "bucket of 2001:db8::/64 (for 2001:db8::1) was full already") {
		t.Errorf("reset of a stranger: %q", out)
	}
}

// What comes in and what goes out, per endpoint and all together, has buckets of its own.
func TestBucketsOfOtherScopes(t *testing.T) {
	s := newSite(t)
	config := writeConfig(t, `table: {entries: 1024}
policies:
  - {name: services, scope: per_endpoint, layer: kernel, limit: 10, window: 10d}
  - {name: everything, scope: global, layer: kernel, limit: 20, window: 20d, mode: shadow}
`)
	s.ok(t, "attach", "eth0", "-c", config)
	s.ok(t, "attach", "eth0", "-c", config, "--hook", "tc-egress", "--mode", "clsact")
	s.send(t, netip.MustParseAddr("192.0.2.77"), 4) // to udp/9
	s.send(t, netip.MustParseAddr("192.0.2.78"), 3)
	for _, c := range []struct {
		args   []string
		tokens uint64
	}{
		{[]string{"services", "udp/9", "--direction", "ingress"}, 3},
		{[]string{"services", "17/10", "--direction", "ingress"}, 10},
		{[]string{"services", "udp/9", "--direction", "egress"}, 10},
		{[]string{"everything", "all", "--direction", "ingress"}, 13},
	} {
		var v bucketView
		s.json(t, &v, append([]string{"bucket", "get"}, c.args...)...)
		if v.Tokens != c.tokens || v.Found != (c.tokens != v.Burst) {
			t.Errorf("%v: %+v, want %d tokens", c.args, v, c.tokens)
		}
	}
	if r := s.weir(t, "bucket", "get", "services", "udp/9"); r.code != exitFailure || !strings.Contains(r.err, "choose with --direction") {
		t.Errorf("which of the two: %+v", r)
	}
	if out := s.ok(t, "bucket", "reset", "services", "udp/9", "--direction", "ingress"); out != "services: the bucket of udp/9 is full; it had 3 of 10 tokens\n" {
		t.Errorf("reset: %q", out)
	}
}

func TestBucketRefuses(t *testing.T) {
	s := newSite(t)
	if r := s.weir(t, "bucket", "get", "per-client", "192.0.2.1"); r.code != exitFailure || !strings.Contains(r.err, "nothing is attached (begin with") {
		t.Errorf("nothing attached: %+v", r)
	}
	s.attach(t, testConfig)
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"get", "per-clinet", "192.0.2.1"}, exitFailure, "there are: per-client, per-net"},
		{[]string{"get", "per-client", "192.0.2.1", "--interface", "eth9"}, exitFailure, "it is on: eth0 for ingress"},
		{[]string{"get", "per-client", "192.0.2"}, exitUsage, "is not a key"},
		{[]string{"get", "per-client"}, exitUsage, "want a policy and a key"},
		{[]string{"get", "per-client", "192.0.2.1", "--direction", "out"}, exitUsage, "want ingress or egress"},
		{[]string{"empty", "per-client", "192.0.2.1"}, exitUsage, `unknown command "empty"`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			r := s.weir(t, append([]string{"bucket"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.err, c.err) || r.out != "" {
				t.Errorf("%+v, want exit code %d and %q", r, c.code, c.err)
			}
		})
	}
}

package main

import (
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
	a := loader.Attachment{Interface: iface, Namespace: ownNamespace(), Mode: loader.ModeNative, State: loader.StateAttached}
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
		on("eth1", shadow, perIP("other", 20)),
		{Interface: "eth1", Namespace: 7, Policies: []loader.LoadedPolicy{{Policy: perIP("third", 10)}}},
	}
	for _, c := range []struct {
		name, policy, iface string
		want                []string
		err                 string
	}{
		{"shared, though one only watches", "same", "", []string{"eth0", "eth1"}, ""},
		{"of one interface", "same", "eth1", []string{"eth1"}, ""},
		{"two meanings", "other", "", nil, "policy other is 10/s with a burst of 10 on eth0, and 20/s with a burst of 20 on eth1 (choose one with --interface)"},
		{"one of two meanings", "other", "eth1", []string{"eth1"}, ""},
		{"on another interface", "same", "eth9", nil, `no policy "same" is loaded on eth9 (it is on: eth0, eth1)`},
		{"in another namespace", "third", "", []string{"eth1@7"}, ""},
		{"of one in another namespace", "third", "eth1@7", []string{"eth1@7"}, ""},
		{"unknown", "nope", "", nil, `no policy "nope" is loaded (there are: same, other, third)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, interfaces, err := findPolicy(all, c.policy, c.iface)
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
	if !v.Found || v.Tokens != 6 || v.Burst != 10 || v.Used != 4 || v.Next != 0 || v.Full <= 0 || v.Bucket.String() != "192.0.2.77/32" {
		t.Errorf("bucket get: %+v, want 6 of 10 tokens", v)
	}
	s.send(t, source, 26)
	s.json(t, &v, "bucket", "get", "per-client", source.String())
	if v.Tokens != 0 || v.Used != 10 || v.Next <= 0 || v.Next > 24*time.Hour {
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
	if v.Tokens != 0 || v.Used != 20 {
		t.Errorf("after the reset and 10 packets: %+v, want them admitted", v)
	}
	if out := s.ok(t, "bucket", "reset", "per-client", "2001:db8::1"); !strings.Contains(out, "bucket of 2001:db8::/64 (for 2001:db8::1) was full already") {
		t.Errorf("reset of a stranger: %q", out)
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
		{[]string{"get", "per-client", "192.0.2.1", "--interface", "eth9"}, exitFailure, "it is on: eth0"},
		{[]string{"get", "per-client", "192.0.2"}, exitUsage, "is not a key"},
		{[]string{"get", "per-client"}, exitUsage, "want a policy and an address"},
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

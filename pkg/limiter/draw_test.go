package limiter

import (
	"fmt"
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/policy"
)

// The generators of this file draw from few values: that policies and requests meet is what matters.

var (
	someUsers     = []string{"", "ann", "bob", "cy"}
	someRoles     = []string{"", "free", "premium"}
	someMethods   = []string{"", "GET", "POST"}
	someEndpoints = []string{"", "/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/b/x", "/ab", "/a//b", "/a/./b?x=1", "/%61/b", "/b/%2F"}
	somePatterns  = []string{"/", "/a", "/a/*", "/a*", "/{v}", "/a/{v}", "/{v}/b", "/a/b", "/b/{v}/*", "/*", "/b/%2f"}
	someAddresses = []string{"10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"}
	somePrefixes  = []string{"10.0.0.0/24", "10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "2001:db8::/64", "2001:db8::2/128", "::/0"}
	someTemplates = []string{"{user}", "{user}|{endpoint}", "{ip}", "x{key}", "{metadata.tenant}", "{role}/{method}", "{api_key}{{}}", "{metadata.tenant}+{metadata.plan}"}
	someMetadata  = []string{"tenant", "plan", "zone", "a", "b"}
	someValues    = []string{"", "x", "xy", "z"}
	someOpen      = []string{"x", "x*", "*", "z", "xy"}
)

func drawSome(t *rapid.T, name string, of []string) []string {
	if rapid.IntRange(0, 2).Draw(t, "any "+name) > 0 {
		return nil
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, 3, rapid.ID).Draw(t, name)
}

func drawPrefixes(t *rapid.T, name string) (out []netip.Prefix) {
	for _, text := range drawSome(t, name, somePrefixes) {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// drawPolicy draws valid policies of layer l7, off ones among them.
func drawPolicy(t *rapid.T, name string) policy.Policy {
	p := policy.Policy{
		Name: name, Layer: policy.LayerL7,
		Scope:    rapid.SampledFrom(policy.Scopes()).Draw(t, "scope"),
		Limit:    rapid.Uint64Range(1, 6).Draw(t, "limit"),
		Window:   time.Second,
		Priority: rapid.IntRange(-1, 3).Draw(t, "priority"),
		Mode:     rapid.SampledFrom([]policy.Mode{policy.ModeEnforce, policy.ModeEnforce, policy.ModeShadow, policy.ModeOff}).Draw(t, "mode"),
		Match: policy.Match{
			Sources:   drawPrefixes(t, "sources"),
			Methods:   drawSome(t, "methods", someMethods[1:]),
			Endpoints: drawSome(t, "endpoints", somePatterns),
			Users:     drawSome(t, "users", someUsers[1:]),
			Roles:     drawSome(t, "roles", someRoles[1:]),
		},
	}
	if p.Scope == policy.ScopeCustom {
		p.Key = rapid.SampledFrom(someTemplates).Draw(t, "key")
	}
	if p.Scope == policy.ScopePerIP {
		p.IPv4Prefix = rapid.SampledFrom([]uint8{0, 24, 32}).Draw(t, "ipv4_prefix")
		p.IPv6Prefix = rapid.SampledFrom([]uint8{0, 48, 128}).Draw(t, "ipv6_prefix")
	}
	if rapid.IntRange(0, 2).Draw(t, "all") == 0 {
		p.Match = policy.Match{}
		return p.WithDefaults()
	}
	for _, key := range drawSome(t, "metadata", someMetadata) {
		if p.Match.Metadata == nil {
			p.Match.Metadata = map[string]string{}
		}
		p.Match.Metadata[key] = rapid.SampledFrom(someOpen).Draw(t, key)
	}
	return p.WithDefaults()
}

// drawDocument draws up to 20 policies, so that more may apply than a decision has room for on its stack.
func drawDocument(t *rapid.T) policy.Document {
	var d policy.Document
	n := rapid.IntRange(0, 20).Draw(t, "policies")
	for i := range n {
		p := drawPolicy(t, fmt.Sprintf("p%d", i))
		for j := i + 1; j < n; j++ {
			if rapid.IntRange(0, 15).Draw(t, "replaces") == 0 {
				p.Replaces = append(p.Replaces, fmt.Sprintf("p%d", j))
			}
		}
		d.Policies = append(d.Policies, p)
	}
	if rapid.IntRange(0, 3).Draw(t, "lists") == 0 {
		d.Allow, d.Deny = drawPrefixes(t, "allow"), drawPrefixes(t, "deny")
	}
	return d
}

func drawRequest(t *rapid.T) (key string, r RequestContext) {
	key = rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "key")
	r = RequestContext{
		Method:   rapid.SampledFrom(someMethods).Draw(t, "method"),
		Endpoint: rapid.SampledFrom(someEndpoints).Draw(t, "endpoint"),
		UserID:   rapid.SampledFrom(someUsers).Draw(t, "user"),
		UserRole: rapid.SampledFrom(someRoles).Draw(t, "role"),
		APIKey:   rapid.SampledFrom([]string{"", "d1", "d2"}).Draw(t, "api key"),
	}
	if rapid.IntRange(0, 4).Draw(t, "address known") > 0 {
		r.ClientIP = netip.MustParseAddr(rapid.SampledFrom(someAddresses).Draw(t, "address"))
	}
	for _, name := range drawSome(t, "metadata", someMetadata) {
		if r.Metadata == nil {
			r.Metadata = map[string]string{}
		}
		r.Metadata[name] = rapid.SampledFrom(someValues).Draw(t, name)
	}
	return key, r
}

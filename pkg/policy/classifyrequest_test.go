package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestClassifyRequest changes one policy of layer 7 or the request of [ann], and tells what becomes of it.
func TestClassifyRequest(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Policy, *RequestContext)
		key    string // of its bucket, if it applies
		reason string // why not
	}{
		{"user", func(*Policy, *RequestContext) {}, "ann", ""},
		{"nobody", func(_ *Policy, r *RequestContext) { r.UserID = "" }, "", "no user is known"},
		{"off", func(p *Policy, _ *RequestContext) { p.Mode = ModeOff }, "", "mode off"},
		{"shadow", func(p *Policy, _ *RequestContext) { p.Mode = ModeShadow }, "ann", ""},
		{"kernel", func(p *Policy, _ *RequestContext) { p.Layer, p.Scope = LayerKernel, ScopePerIP }, "", "layer kernel judges packets, not requests"},

		{"API key", func(p *Policy, _ *RequestContext) { p.Scope = ScopePerAPIKey }, "0a1b", ""},
		{"no API key", func(p *Policy, r *RequestContext) { p.Scope, r.APIKey = ScopePerAPIKey, "" }, "", "no API key is known"},
		{"global", func(p *Policy, r *RequestContext) { p.Scope, *r = ScopeGlobal, RequestContext{} }, "-", ""},
		{"address", func(p *Policy, _ *RequestContext) { p.Scope = ScopePerIP }, "203.0.113.7", ""},
		{"prefix", func(p *Policy, _ *RequestContext) { p.Scope, p.IPv4Prefix = ScopePerIP, 24 }, "203.0.113.0/24", ""},
		{"IPv6 prefix", func(p *Policy, r *RequestContext) {
			p.Scope, r.ClientIP = ScopePerIP, netip.MustParseAddr("2001:db8::1:2")
		}, "2001:db8::/64", ""},
		{"key for address", func(p *Policy, r *RequestContext) { p.Scope, r.ClientIP = ScopePerIP, netip.Addr{} }, "k", ""},
		{"endpoint", func(p *Policy, _ *RequestContext) { p.Scope = ScopePerEndpoint }, "/api/v2", ""},
		{"no endpoint", func(p *Policy, r *RequestContext) { p.Scope, r.Endpoint = ScopePerEndpoint, "" }, "", "no endpoint is known"},
		{"pattern", func(p *Policy, _ *RequestContext) {
			p.Scope, p.Match.Endpoints = ScopePerEndpoint, []string{"/b", "/api/{v}", "/api/*"}
		}, "/api/{v}", ""},
		{"template", func(p *Policy, _ *RequestContext) { p.Scope, p.Key = ScopeCustom, "{metadata.tenant}/{method}" }, "acme/POST", ""},
		{"template, nobody", func(p *Policy, r *RequestContext) { p.Scope, p.Key, r.UserRole = ScopeCustom, "{ip}{role}", "" }, "", "no {role} is known"},

		{"source", func(p *Policy, _ *RequestContext) { p.Match.Sources = prefixes("203.0.113.0/24") }, "ann", ""},
		{"other source", func(p *Policy, _ *RequestContext) { p.Match.Sources = prefixes("192.0.2.0/24") }, "", "source 203.0.113.7 is in none of its sources"},
		{"no source", func(p *Policy, r *RequestContext) { p.Match.Sources, r.ClientIP = prefixes("0.0.0.0/0"), netip.Addr{} }, "", "no client address is known"},
		{"method", func(p *Policy, _ *RequestContext) { p.Match.Methods = []string{"PUT", "POST"} }, "ann", ""},
		{"other method", func(p *Policy, r *RequestContext) { p.Match.Methods, r.Method = []string{"POST", "PUT"}, "GET" }, "", "method GET is not among POST, PUT"},
		{"no method", func(p *Policy, r *RequestContext) { p.Match.Methods, r.Method = []string{"POST"}, "" }, "", "no method is known"},
		{"path", func(p *Policy, _ *RequestContext) { p.Match.Endpoints = []string{"/api/v2"} }, "ann", ""},
		{"other path", func(p *Policy, _ *RequestContext) { p.Match.Endpoints = []string{"/api/v2/*"} }, "", "endpoint /api/v2 is not /api/v2/*"},
		{"other user", func(p *Policy, _ *RequestContext) { p.Match.Users = []string{"b b"} }, "", `user ann is not "b b"`},
		{"one of many", func(p *Policy, _ *RequestContext) { p.Match.Users = strings.Split("a b c d e f g h i j", " ") }, "",
			"user ann is not among a, b, c, d, e, f, g, h, 2 more"},
		{"role", func(p *Policy, _ *RequestContext) { p.Match.Roles = []string{"premium"} }, "ann", ""},
		{"terminal", func(p *Policy, r *RequestContext) { p.Match.Roles, r.UserRole = []string{"premium"}, "\x1b[2J" }, "", `role "\x1b[2J" is not premium`},
		{"metadata", func(p *Policy, _ *RequestContext) { p.Match.Metadata = map[string]string{"tenant": "ac*", "NAME": "n"} }, "ann", ""},
		{"other metadata", func(p *Policy, _ *RequestContext) { p.Match.Metadata = map[string]string{"tenant": "ac"} }, "", "metadata tenant acme is not ac"},
		{"no metadata", func(p *Policy, _ *RequestContext) { p.Match.Metadata = map[string]string{"tenant": "*", "gone": "*"} }, "", "no metadata gone is known"},
		{"the first that excludes", func(p *Policy, r *RequestContext) {
			p.Match.Users, p.Match.Methods, r.Endpoint = []string{"bob"}, []string{"PUT"}, ""
		}, "", "method POST is not PUT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, r := valid(), ann()
			p.Scope, p.Layer = ScopePerUser, LayerL7
			c.change(&p, &r)
			if faults := p.Validate(); faults != nil {
				t.Fatal(faults)
			}
			got := ClassifyRequest([]Policy{p}, Lists{}, "k", r).Policies[0]
			if got.Key != c.key || got.Reason != c.reason || (got.Effect == EffectCharge) != (c.reason == "") {
				t.Errorf("%s of %q: %q, want %q: %q", got.Effect, got.Key, got.Reason, c.key, c.reason)
			}
		})
	}
}

func TestRequestsAreClassifiedInOrder(t *testing.T) {
	policies := make([]Policy, 6)
	for i := range policies {
		policies[i] = valid()
		policies[i].Name, policies[i].Layer, policies[i].Scope = string(rune('a'+i)), LayerL7, ScopeGlobal
	}
	policies[0].Layer = LayerKernel
	policies[1].Mode, policies[2].Mode = ModeOff, ModeShadow
	policies[3].Priority, policies[4].Priority, policies[4].Replaces = 1, 1, []string{"f"}
	got := ClassifyRequest(policies, Lists{}, "", ann())
	var names, reasons []string
	for _, j := range got.Policies {
		names, reasons = append(names, j.Policy.Name), append(reasons, j.Reason)
	}
	if want := strings.Split("d e c f a b", " "); !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	if want := []string{"", "", "", "replaced by e", "layer kernel judges packets, not requests", "mode off"}; !slices.Equal(reasons, want) {
		t.Errorf("got %q, want %q", reasons, want)
	}
	if key := got.Policies[3].Key; key != "" {
		t.Errorf("what is replaced has a bucket, %q", key)
	}

	lists := Lists{Allow: prefixes("203.0.113.7/32"), Deny: prefixes("203.0.113.0/24")}
	got = ClassifyRequest(policies, lists, "", ann())
	if got.List != ListAllow || got.Prefix != lists.Allow[0] || got.Charged() != nil || got.Policies[0].Reason != "allow 203.0.113.7/32 decides before any policy" {
		t.Errorf("got %+v", got)
	}
	if got := ClassifyRequest(policies, lists, "", RequestContext{}); got.List != ListNone || len(got.Charged()) != 3 {
		t.Errorf("without an address: %+v", got)
	}
}

// TestRequestClassification holds what is true of every one.
func TestRequestClassification(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, r := drawDocument().Draw(t, "document"), drawRequest().Draw(t, "request")
		key := rapid.SampledFrom([]string{"", "k"}).Draw(t, "key")
		c := ClassifyRequest(d.Policies, d.Lists(), key, r)
		enforced := L7Policies(d.Policies)
		if len(c.Policies) != len(d.Policies) {
			t.Fatalf("%d judgements over %d policies", len(c.Policies), len(d.Policies))
		}
		for i, j := range c.Policies {
			switch charged := j.Effect == EffectCharge; {
			case charged == (j.Reason != "") || charged == (j.Key == ""):
				t.Fatalf("%+v", j)
			case charged && (i >= len(enforced) || c.List != ListNone):
				t.Fatalf("%s is charged", j.Policy.Name)
			case i < len(enforced) && enforced[i].Name != j.Policy.Name:
				t.Fatalf("%s stands in the place of %s", j.Policy.Name, enforced[i].Name)
			}
		}
		clean := r
		clean.Endpoint = CleanEndpoint(r.Endpoint)
		if again := ClassifyRequest(d.Policies, d.Lists(), key, clean); !slices.EqualFunc(c.Policies, again.Policies, func(a, b Judgement) bool {
			return a.Effect == b.Effect && a.Reason == b.Reason && a.Key == b.Key
		}) {
			t.Fatal("the spelling of the endpoint counts")
		}
	})
}

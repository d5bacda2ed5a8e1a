package limiter

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestFindAgreesWithClassifyRequest holds the compiled matcher to the reference: the same policies, in the
// same order.
func TestFindAgreesWithClassifyRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		l, err := New(Options{Entries: 1024})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Replace(doc); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			r, key := drawContext(t), drawMaybe(t, "key", drawWord())
			var want, got []string
			for _, p := range policy.ClassifyRequest(doc.Policies, doc.Lists(), key, r).Charged() {
				want = append(want, p.Name)
			}
			v := view{request: &r, client: r.ClientIP, key: key, endpoint: policy.CleanEndpoint(r.Endpoint)}
			for _, c := range l.set.Load().find(nil, &v) {
				got = append(got, c.rule.policy.Name)
			}
			if !slices.Equal(want, got) {
				t.Fatalf("%+v with key %q is charged to %v, want %v", r, key, got, want)
			}
		}
	})
}

// The generators draw from few values, so that policies and requests meet.

func drawWord() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "tenant", "ab"})
}
func drawMethod() *rapid.Generator[string] { return rapid.SampledFrom([]string{"GET", "POST"}) }

func drawMaybe(t *rapid.T, name string, of *rapid.Generator[string]) string {
	return rapid.OneOf(rapid.Just(""), of, of, of).Draw(t, name)
}

func drawClient() *rapid.Generator[netip.Addr] {
	return rapid.Map(rapid.IntRange(0, 15), func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i / 4), byte(i % 4)}) })
}

func drawDocument(t *rapid.T) policy.Document {
	var doc policy.Document
	for i := range rapid.IntRange(1, 8).Draw(t, "policies") {
		p := policy.Policy{
			Name: fmt.Sprintf("p%d", i), Layer: policy.LayerL7, Limit: 1000, Window: time.Second, Match: drawMatch(t),
			Scope:    rapid.SampledFrom(policy.Scopes()).Draw(t, "scope"),
			Priority: rapid.IntRange(-1, 2).Draw(t, "priority"),
			Mode:     rapid.SampledFrom(policy.Modes()).Draw(t, "mode"),
		}
		if p.Scope == policy.ScopeCustom {
			p.Key = rapid.SampledFrom([]string{"{user}:{endpoint}", "{ip}{key}", "{metadata.tenant}", "x{role}{method}", "{api_key}"}).Draw(t, "key")
		}
		doc.Policies = append(doc.Policies, p.WithDefaults())
	}
	for i := range doc.Policies { // only later ones, so that no circle closes
		for _, q := range doc.Policies[i+1:] {
			if rapid.IntRange(0, 4).Draw(t, "replaces") == 0 {
				doc.Policies[i].Replaces = append(doc.Policies[i].Replaces, q.Name)
			}
		}
	}
	return doc
}

func drawMatch(t *rapid.T) policy.Match {
	few := func(name string, of *rapid.Generator[string]) []string {
		return rapid.OneOf(rapid.Just[[]string](nil), rapid.SliceOfN(of, 1, 3)).Draw(t, name)
	}
	m := policy.Match{
		Methods: few("methods", drawMethod()), Users: few("users", drawWord()), Roles: few("roles", drawWord()),
		Endpoints: few("endpoints", rapid.SampledFrom([]string{"/", "/a", "/a/b", "/{x}", "/a/*", "/*", "/{x}/b", "/a*", "/b/{x}/*"})),
	}
	if rapid.IntRange(0, 2).Draw(t, "by source") == 0 {
		m.Sources = []netip.Prefix{netip.PrefixFrom(drawClient().Draw(t, "source"), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()}
	}
	if rapid.IntRange(0, 2).Draw(t, "by metadata") == 0 {
		m.Metadata = map[string]string{drawWord().Draw(t, "name"): rapid.SampledFrom([]string{"a", "a*", "*"}).Draw(t, "pattern")}
	}
	return m
}

func drawContext(t *rapid.T) policy.RequestContext {
	r := policy.RequestContext{
		Method: drawMaybe(t, "method", drawMethod()), UserID: drawMaybe(t, "user", drawWord()), UserRole: drawMaybe(t, "role", drawWord()),
		APIKey:   drawMaybe(t, "api key", drawWord()),
		Endpoint: drawMaybe(t, "endpoint", rapid.SampledFrom([]string{"/a", "/a/b?x", "//b/c/../d", "/"})),
		Metadata: rapid.MapOfN(drawWord(), rapid.SampledFrom([]string{"", "a", "b", "ab"}), 0, 3).Draw(t, "metadata"),
	}
	if rapid.IntRange(0, 3).Draw(t, "has address") > 0 {
		r.ClientIP = drawClient().Draw(t, "address")
	}
	return r
}

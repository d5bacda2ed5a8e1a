package policy

import (
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// drawL7Policy draws valid policies of layer 7.
func drawL7Policy(name string) *rapid.Generator[Policy] {
	return rapid.Custom(func(t *rapid.T) Policy {
		p := Policy{
			Name: name, Layer: LayerL7, Limit: rapid.Uint64Range(1, 1000).Draw(t, "limit"),
			Window:    time.Duration(rapid.Int64Range(1e8, 1e9).Draw(t, "window")),
			Scope:     rapid.SampledFrom(Scopes()).Draw(t, "scope"),
			Algorithm: rapid.SampledFrom(Algorithms()).Draw(t, "algorithm"),
			Priority:  rapid.IntRange(-2, 2).Draw(t, "priority"),
			Mode:      rapid.SampledFrom(Modes()).Draw(t, "mode"),
			Headers:   map[string]string{"X-A": rapid.StringMatching(`[ -~]*`).Draw(t, "header")},
		}
		if !p.Algorithm.counts() {
			p.Burst = rapid.Uint64Range(1, 30).Draw(t, "burst")
		}
		switch p.Scope {
		case ScopePerIP:
			p.IPv4Prefix, p.IPv6Prefix = rapid.Uint8Range(1, 32).Draw(t, "ipv4_prefix"), rapid.Uint8Range(1, 128).Draw(t, "ipv6_prefix")
		case ScopeCustom:
			p.Key = drawTemplate().Draw(t, "key")
		}
		p.Match = drawL7Match().Draw(t, "match")
		return p.WithDefaults()
	})
}

func drawL7Match() *rapid.Generator[Match] {
	pattern := rapid.SampledFrom([]string{"a", "b", "a*", "*"})
	return rapid.Custom(func(t *rapid.T) Match {
		m := Match{
			Sources:   few(drawPrefix()).Draw(t, "sources"),
			Methods:   few(drawMethod()).Draw(t, "methods"),
			Endpoints: few(drawPattern()).Draw(t, "endpoints"),
			Users:     few(drawName()).Draw(t, "users"),
			Roles:     few(drawName()).Draw(t, "roles"),
		}
		if rapid.Bool().Draw(t, "by metadata") {
			m.Metadata = rapid.MapOfN(drawName(), pattern, 1, 2).Draw(t, "metadata")
		}
		return m
	})
}

func drawMethod() *rapid.Generator[string] { return rapid.SampledFrom([]string{"GET", "POST"}) }
func drawName() *rapid.Generator[string]   { return rapid.SampledFrom([]string{"a", "b", "tenant"}) }

// drawTemplate draws valid templates.
func drawTemplate() *rapid.Generator[string] {
	part := rapid.OneOf(rapid.SampledFrom([]string{"{{", "}}", ":", "é", "{user}", "{metadata.tenant}"}), rapid.StringMatching(`[^{}\pC]{0,4}`))
	return rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(part, 0, 8).Draw(t, "parts")
		field := rapid.SampledFrom([]string{"user", "role", "api_key", "endpoint", "method", "ip", "key", "metadata.a b"}).Draw(t, "field")
		at := rapid.IntRange(0, len(parts)).Draw(t, "at")
		return strings.Join(slices.Insert(parts, at, "{"+field+"}"), "")
	})
}

// drawPattern draws valid patterns of endpoints.
func drawPattern() *rapid.Generator[string] {
	segment := rapid.SampledFrom([]string{"a", "b", "{id}", "é", "%2a", "...", "a.b"})
	return rapid.Custom(func(t *rapid.T) string {
		segments := rapid.SliceOfN(segment, 0, 4).Draw(t, "segments")
		end := rapid.SampledFrom([]string{"a", "{id}", "", "*", "a*"}).Draw(t, "end")
		return "/" + strings.Join(append(segments, end), "/")
	})
}

func drawRequest() *rapid.Generator[RequestContext] {
	return rapid.Custom(func(t *rapid.T) RequestContext {
		maybe := func(name string, of *rapid.Generator[string]) string {
			return rapid.OneOf(rapid.Just(""), of, of, of).Draw(t, name)
		}
		r := RequestContext{
			Method: maybe("method", drawMethod()), UserID: maybe("user", drawName()), UserRole: maybe("role", drawName()),
			APIKey:   maybe("api key", drawName()),
			Endpoint: maybe("endpoint", rapid.SampledFrom([]string{"/a", "/a/b", "/b/", "/%61/../b/x?y", "/"})),
			Metadata: rapid.MapOfN(drawName(), drawName(), 0, 3).Draw(t, "metadata"),
		}
		if rapid.IntRange(0, 3).Draw(t, "has address") > 0 {
			r.ClientIP = drawAddress().Draw(t, "address")
		}
		return r
	})
}

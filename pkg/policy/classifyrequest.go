package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// GlobalKey is how people write the key of the one bucket of a policy of scope
// global.
const GlobalKey = "-"

// ClassifyRequest tells what decides over a request. It is the reference for
// layer 7's way of asking the same: each policy is held against the request by
// itself, field by field. The policies must be valid as a set; key is what the
// caller named itself, and may be empty.
//
// The key of each bucket is written out, by the scope of its policy: the prefix
// of the client ("203.0.113.0/24", and an address where that is meant), the
// user, the digest of the API key, the first of the policy's patterns that
// matches the endpoint or, if it has none, the endpoint itself, [GlobalKey], or what
// the template makes.
func ClassifyRequest(policies []Policy, lists Lists, key string, r RequestContext) Classification {
	r.Endpoint = CleanEndpoint(r.Endpoint)
	ordered := append(L7Policies(policies), slices.DeleteFunc(slices.Clone(policies), Policy.inL7)...)
	var c Classification
	for _, p := range ordered {
		j := Judgement{Policy: p, Effect: EffectNone}
		if j.Reason = p.excludesRequest(&r); j.Reason == "" {
			j.Key, j.Reason = p.bucketKey(key, &r)
		}
		if j.Reason == "" {
			j.Effect = EffectCharge
		}
		c.Policies = append(c.Policies, j)
	}
	c.replace()
	c.judgeLists(lists, r.ClientIP)
	return c
}

// excludesRequest returns the first dimension that excludes the request, or
// nothing.
func (p Policy) excludesRequest(r *RequestContext) string {
	m := p.Match
	switch {
	case p.Mode == ModeOff:
		return "mode off"
	case p.Layer != LayerL7:
		return fmt.Sprintf("layer %s judges packets, not requests", p.Layer)
	case len(m.Sources) > 0 && !r.ClientIP.IsValid():
		return unknown("client address")
	case !m.hasSource(r.ClientIP):
		return fmt.Sprintf("source %s is in none of its sources", r.ClientIP)
	}
	_, hasEndpoint := m.endpoint(r.Endpoint)
	for _, field := range []struct {
		name, value string
		allowed     []string
		matches     bool
	}{
		{"method", r.Method, m.Methods, slices.Contains(m.Methods, r.Method)},
		{"endpoint", r.Endpoint, m.Endpoints, hasEndpoint},
		{"user", r.UserID, m.Users, slices.Contains(m.Users, r.UserID)},
		{"role", r.UserRole, m.Roles, slices.Contains(m.Roles, r.UserRole)},
	} {
		switch {
		case len(field.allowed) == 0:
		case field.value == "":
			return unknown(field.name)
		case !field.matches:
			return fmt.Sprintf("%s %s is not %s", field.name, legible(field.value), among(field.allowed))
		}
	}
	return m.excludesMetadata(r.Metadata)
}

func (m Match) excludesMetadata(metadata map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		switch value := metadata[name]; {
		case value == "":
			return unknown("metadata " + legible(name))
		case !matchesText(m.Metadata[name], value):
			return fmt.Sprintf("metadata %s %s is not %s", legible(name), legible(value), legible(m.Metadata[name]))
		}
	}
	return ""
}

// matchesText reports whether a value is what a pattern of match.metadata asks
// for: the pattern itself or, if it ends in "*", anything that begins so.
func matchesText(pattern, value string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(value, prefix)
	}
	return pattern == value
}

// endpoint returns the first of the patterns that matches a clean path.
func (m Match) endpoint(path string) (pattern string, ok bool) {
	for _, text := range m.Endpoints {
		if p, err := ParseEndpoint(text); err == nil && p.Match(path) {
			return text, true
		}
	}
	return "", false
}

// bucketKey returns the key of the bucket that a request with a clean endpoint
// is charged to, or why there is none.
func (p Policy) bucketKey(key string, r *RequestContext) (bucket, reason string) {
	known := func(name, value string) (string, string) {
		if value == "" {
			return "", unknown(name)
		}
		return value, ""
	}
	switch p.Scope {
	case ScopePerIP:
		if r.ClientIP.IsValid() {
			return p.sourceKey(r.ClientIP), ""
		}
		return known("client address", key)
	case ScopePerUser:
		return known("user", r.UserID)
	case ScopePerAPIKey:
		return known("API key", r.APIKey)
	case ScopePerEndpoint:
		if pattern, ok := p.Match.endpoint(r.Endpoint); ok {
			return pattern, ""
		}
		return known("endpoint", r.Endpoint)
	case ScopeGlobal:
		return GlobalKey, ""
	}
	t, err := ParseTemplate(p.Key)
	if err != nil {
		return "", err.Error() // the policy is not valid
	}
	expanded, missing := t.Expand(key, r)
	if missing != "" {
		return "", unknown(missing)
	}
	return expanded, ""
}

// sourceKey returns the prefix that shares a bucket with an address.
func (p Policy) sourceKey(source netip.Addr) string {
	bits := p.IPv6Prefix
	if source.Is4() {
		bits = p.IPv4Prefix
	}
	if int(bits) == source.BitLen() {
		return source.String()
	}
	return netip.PrefixFrom(source, int(bits)).Masked().String()
}

func unknown(what string) string { return "no " + what + " is known" }

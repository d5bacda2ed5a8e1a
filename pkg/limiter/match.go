package limiter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-limiter/weir/pkg/policy"
)

// view is a request as matchers look at it.
type view struct {
	request  *RequestContext
	client   netip.Addr // IPv4 as such, and without zone, however the request has it
	key      string
	endpoint string // clean
}

// matcher is a policy's match, understood. policy.ClassifyRequest says the same of single policies, slowly;
// a test holds the two together.
type matcher struct {
	sources   policy.PrefixSet
	methods   []string
	endpoints []policy.EndpointPattern
	users     texts
	roles     texts
	metadata  []metadataPattern
}

// metadataPattern is a value, or the beginning of one.
type metadataPattern struct {
	name, value string
	open        bool
}

// texts is a set of names.
type texts map[string]struct{}

func (t texts) has(text string) bool { _, ok := t[text]; return ok }

func newTexts(all []string) texts {
	if len(all) == 0 {
		return nil
	}
	t := make(texts, len(all))
	for _, text := range all {
		t[text] = struct{}{}
	}
	return t
}

func newMatcher(m policy.Match) (matcher, error) {
	out := matcher{sources: policy.NewPrefixSet(m.Sources), methods: m.Methods, users: newTexts(m.Users), roles: newTexts(m.Roles)}
	for i, text := range m.Endpoints {
		pattern, err := policy.ParseEndpoint(text)
		if err != nil {
			return matcher{}, fmt.Errorf("match.endpoints[%d]: %w", i, err)
		}
		out.endpoints = append(out.endpoints, pattern)
	}
	for name, text := range m.Metadata {
		value, open := strings.CutSuffix(text, "*")
		out.metadata = append(out.metadata, metadataPattern{name, value, open})
	}
	slices.SortFunc(out.metadata, func(a, b metadataPattern) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// match tells whether a request is the policy's and, if it asks for endpoints, which of its patterns does.
func (m *matcher) match(v *view) (endpoint int, ok bool) {
	r := v.request
	switch {
	case len(m.methods) > 0 && !slices.Contains(m.methods, r.Method),
		m.users != nil && !m.users.has(r.UserID),
		m.roles != nil && !m.roles.has(r.UserRole),
		!m.sources.Empty() && !m.sources.Contains(v.client):
		return 0, false
	}
	for i := range m.metadata {
		if !m.metadata[i].match(r.Metadata) {
			return 0, false
		}
	}
	if m.endpoints == nil {
		return 0, true
	}
	for i := range m.endpoints {
		if m.endpoints[i].Match(v.endpoint) {
			return i, true
		}
	}
	return 0, false
}

// match: an empty value is one that is not known.
func (p *metadataPattern) match(metadata map[string]string) bool {
	value := metadata[p.name]
	if p.open {
		return value != "" && strings.HasPrefix(value, p.value)
	}
	return value == p.value // which is never empty
}

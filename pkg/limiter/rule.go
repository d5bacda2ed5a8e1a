package limiter

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Rule is one limit, ready to be charged.
type Rule struct {
	policy    policy.Policy
	algorithm Algorithm
	space     space
	headers   []Header
	shadow    bool
	releases  bool // what it grants lasts until it is given back
	queues    bool // what it grants is a place behind others
	own       bool // it came with a query
	counters  *counters
	shared    Shared // what nodes share; nil: the limit is this process' own
	portion   atomic.Pointer[portion]

	// Of policies that find their requests.
	match      matcher
	template   policy.Template
	order      int     // of evaluation
	replacedBy []*Rule // where they apply too
}

// newRule makes what the limiter charges of a policy.
func (l *Limiter) newRule(p policy.Policy, c *counters) (*Rule, error) {
	algorithm, err := l.newAlgorithm(p)
	if err != nil {
		return nil, fmt.Errorf("algorithm %s: %w", p.Algorithm, err)
	}
	_, releasing := algorithm.(Releasing)
	_, queues := algorithm.(queueing)
	shared, err := l.share(p)
	if err != nil {
		return nil, err
	}
	return &Rule{
		shared:    shared,
		policy:    p,
		algorithm: algorithm,
		space:     l.hasher.space(string(p.Scope), p.Name, p.IPv4Prefix, p.IPv6Prefix),
		headers:   headersOf(p),
		shadow:    p.Mode == policy.ModeShadow,
		releases:  releasing,
		queues:    queues,
		counters:  c,
	}, nil
}

// share is what nodes share of a policy; nil if that is nothing.
func (l *Limiter) share(p policy.Policy) (Shared, error) {
	if l.store == nil || p.Consistency != policy.ConsistencyStrict && p.Consistency != policy.ConsistencyLeased {
		return nil, nil
	}
	return l.store.Share(p)
}

func (l *Limiter) newAlgorithm(p policy.Policy) (Algorithm, error) {
	if further := l.algorithms[p.Algorithm]; further != nil {
		return further(p)
	}
	return newAlgorithm(p)
}

// headersOf spells the headers as net/http does, which then has nothing left to do for a request.
func headersOf(p policy.Policy) []Header {
	headers := make([]Header, 0, len(p.Headers))
	for name, value := range p.Headers {
		headers = append(headers, Header{http.CanonicalHeaderKey(name), value})
	}
	slices.SortFunc(headers, func(a, b Header) int { return cmp.Compare(a.Name, b.Name) })
	return headers
}

// NewRule makes a limit that queries can name, from a policy of any scope: what a bucket is for, the
// query's key says. Rules of one name share their buckets and their counters; with a policy of that name they
// share neither. Of the policy, what finds requests has no meaning here, and no bounds hold but those of
// its algorithm.
func (l *Limiter) NewRule(p policy.Policy) (*Rule, error) {
	p.Scope = "rule"
	if p.Consistency == "" && l.algorithms[p.Algorithm] != nil {
		p.Consistency = policy.ConsistencyLocal // see admit
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.ruleCounters[p.Name]
	if c == nil {
		c = &counters{}
	}
	r, err := l.newRule(p.WithDefaults().WithStore(l.policyStore()), c)
	if err != nil {
		return nil, err
	}
	l.ruleCounters[p.Name] = c
	return r, nil
}

// asksEndpoint tells whether finding a bucket takes the endpoint.
func (r *Rule) asksEndpoint() bool {
	return r.match.endpoints != nil || r.policy.Scope == policy.ScopePerEndpoint ||
		slices.ContainsFunc(r.template.Parts(), func(p policy.TemplatePart) bool { return p.Field == policy.FieldEndpoint })
}

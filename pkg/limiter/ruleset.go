package limiter

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/weir-limiter/weir/pkg/policy"
)

// ruleSet is what a document became. It does not change.
type ruleSet struct {
	document policy.Document
	lists    lists
	rules    []*Rule // in the order of evaluation
	byName   map[string]*Rule
	byHash   map[uint64]*Rule // of the name, for lease tokens
	index    index
	// asksEndpoint tells whether any of them looks at the endpoint, which then has to be clean.
	asksEndpoint bool
}

func newRuleSet(doc policy.Document) *ruleSet {
	return &ruleSet{
		document: doc,
		lists:    lists{policy.NewPrefixSet(doc.Allow), policy.NewPrefixSet(doc.Deny)},
		byName:   map[string]*Rule{},
		byHash:   map[uint64]*Rule{},
	}
}

// compile makes a set of a valid document. Policies that stay keep their counters, as they keep their
// buckets.
func (l *Limiter) compile(doc policy.Document, before *ruleSet) (*ruleSet, error) {
	s := newRuleSet(doc)
	for _, p := range policy.L7Policies(doc.Policies) {
		c := &counters{}
		if old := before.byName[p.Name]; old != nil {
			c = old.counters
		}
		r, err := l.newPolicyRule(p, c)
		if err != nil {
			path := fmt.Sprintf("policies[%d].algorithm", at(doc, p.Name))
			return nil, &InvalidError{[]policy.Fault{{Path: path, Problem: err.Error(), Mend: "give it what it takes, or choose another"}}}
		}
		s.rules, s.byName[p.Name] = append(s.rules, r), r
		s.asksEndpoint = s.asksEndpoint || r.asksEndpoint()
		s.byHash[maphash.String(l.hasher.seed, p.Name)] = r
	}
	for i, r := range s.rules {
		r.order = i
		for _, name := range r.policy.Replaces {
			// One in shadow has no say over one that enforces.
			if broader := s.byName[name]; broader != nil && (!r.shadow || broader.shadow) {
				broader.replacedBy = append(broader.replacedBy, r)
			}
		}
	}
	s.index = newIndex(s.rules)
	return s, nil
}

// newPolicyRule is newRule for a policy that finds its requests.
func (l *Limiter) newPolicyRule(p policy.Policy, c *counters) (*Rule, error) {
	r, err := l.newRule(p, c)
	if err != nil {
		return nil, err
	}
	if r.match, err = newMatcher(p.Match); err != nil {
		return nil, err
	}
	if p.Scope == policy.ScopeCustom {
		r.template, err = policy.ParseTemplate(p.Key)
	}
	return r, err
}

// find appends the buckets of the policies that apply to a request, in the order of evaluation.
func (s *ruleSet) find(all []charge, v *view) []charge {
	first := len(all)
	return dropReplaced(s.index.find(all, first, v), first)
}

// dropReplaced takes out what others that apply replace. All have their say, those that are replaced
// themselves too, so that none goes before all were asked.
func dropReplaced(all []charge, first int) []charge {
	found, some := all[first:], false
	for i := range found {
		found[i].replaced = applies(found, found[i].rule.replacedBy)
		some = some || found[i].replaced
	}
	if !some {
		return all
	}
	return append(all[:first], slices.DeleteFunc(found, func(c charge) bool { return c.replaced })...)
}

// applies tells whether one of the rules is among the charges, which are in the order of evaluation: thousands
// may replace thousands.
func applies(charges []charge, rules []*Rule) bool {
	for _, r := range rules {
		_, found := slices.BinarySearchFunc(charges, r.order, func(c charge, order int) int { return cmp.Compare(c.rule.order, order) })
		if found {
			return true
		}
	}
	return false
}

package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-limiter/weir/pkg/policy"
)

// targetSelective is how many times a packet may cost that meets eight policies, and matches four, what it costs with one.
const targetSelective = 2.5

// The contenders of the section.
const (
	nameOnePolicy = "weir, 1 policy"
	nameSelective = "weir, 8 with prefixes and ports, 4 matching"
	nameEight     = "weir, 8 policies"
	nameTwo       = "weir, 2 policies"
)

// runPolicies measures one source under one policy and several, within all of them.
func (r *runner) runPolicies(ctx context.Context) error {
	c, err := r.policiesContest()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return r.hold(ctx, c)
}

// policiesContest is to be closed even on an error.
func (r *runner) policiesContest() (*contest, error) {
	c := &contest{section: sectionPolicies, traffic: "1 source, admitted", comparisons: policyComparisons()}
	cpus, err := lastCPUs(1)
	if err != nil {
		return c, err
	}
	floor := programLane{title: nameBare, cpus: cpus, claim: all(policy.VerdictDrop)}
	if err := c.add(r.programLane(floor, 1, bare{}, nil)); err != nil {
		return c, err
	}
	for _, set := range []struct {
		title    string
		policies []policy.Policy
		matching int
	}{
		{nameOnePolicy, generous(1), 1},
		{nameTwo, generous(2), 2},
		{nameEight, generous(8), 8},
		{nameSelective, selective(), 4},
	} {
		claim := all(policy.VerdictPass)
		claim.matching = set.matching
		w, err := newWeir(set.policies, r.entries)
		l := programLane{title: set.title, cpus: cpus, warmUp: warmUpOne, claim: claim}
		if err := c.add(r.programLane(l, 1, w, err)); err != nil {
			return c, err
		}
	}
	return c, nil
}

func policyComparisons() []comparison {
	selective := costRatio(nameSelective, nameOnePolicy, targetSelective)
	selective.what = "8 policies, 4 matching / 1 policy"
	net := comparison{
		what: "the same, both less a bare drop", unit: UnitRatio, of: []string{nameSelective, nameOnePolicy, nameBare},
		figure: func(ns []float64) float64 { return (ns[0] - ns[2]) / (ns[1] - ns[2]) },
	}
	return []comparison{selective, net, further(nameTwo, 1), further(nameEight, 7)}
}

// further is what each of so many policies beyond the first adds.
func further(contender string, n float64) comparison {
	return comparison{
		what: fmt.Sprintf("each policy beyond the first, of %d", int(n)+1), unit: UnitNS, of: []string{contender, nameOnePolicy},
		figure: func(ns []float64) float64 { return (ns[0] - ns[1]) / n },
	}
}

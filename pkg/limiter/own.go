package limiter

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// OwnPolicy is what results call a limit that came with its query.
const OwnPolicy = "request"

// ownRules remembers the rules of limits that came with queries, each in the one place that it may have:
// most who ask do so with the same few limits, and what is forgotten is made again.
type ownRules [1 << 8]atomic.Pointer[Rule]

// ownRule is the rule of a limit that comes with a query.
func (l *Limiter) ownRule(q *Query) (*Rule, error) {
	if bad := checkText("key", q.Key, mustBeThere); bad != nil {
		return nil, bad
	}
	which := q.Limit*0xff51afd7ed558ccd ^ uint64(q.Window)*0xc4ceb9fe1a85ec53
	place := &l.ownRules[which>>56]
	if r := place.Load(); r != nil && r.policy.Limit == q.Limit && r.policy.Window == q.Window {
		return r, nil
	}
	r, err := l.newOwnRule(q.Limit, q.Window)
	if err != nil {
		return nil, err
	}
	// Who asks with another limit has another bucket: a debt to the one means nothing to the other.
	r.space.offset = mix(r.space.offset ^ which)
	place.Store(r)
	return r, nil
}

func (l *Limiter) newOwnRule(limit uint64, window time.Duration) (*Rule, error) {
	p := policy.Policy{Name: OwnPolicy, Limit: limit, Window: window, Burst: limit, Unit: policy.UnitRequests, Algorithm: policy.AlgorithmTokenBucket, Consistency: l.ownConsistency}.WithStore(l.policyStore())
	if faults := p.RateFaults(); faults != nil {
		f := faults[0]
		if f.Path == "burst" { // which a query has none of
			return nil, &QueryError{"window", fmt.Sprintf("%s is longer than %s", policy.FormatDuration(window), policy.FormatDuration(policy.MaxRefill)), "shorten it"}
		}
		return nil, &QueryError{f.Path, f.Problem, f.Mend}
	}
	algorithm, err := newTokenBucket(p)
	if err != nil {
		return nil, &QueryError{"limit", err.Error(), "choose a rate from 1/day to 100000000/s"}
	}
	r := &Rule{policy: p, algorithm: algorithm, counters: l.own, space: l.ownSpace, own: true}
	if r.shared, err = l.share(p); err != nil {
		return nil, fmt.Errorf("share a limit that came with a query: %w", err)
	}
	return r, nil
}

package limiter

import (
	"context"
	"sync"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// decideShared charges the buckets that nodes share, or none of them, and sets the time to what it is when all have
// been asked.
func (l *Limiter) decideShared(ctx context.Context, charges []charge, now *Instant, allowed bool) (_ bool, by backend) {
	take, asks := allowed, 0
	for i := range charges {
		c := &charges[i]
		if c.rule.shared == nil {
			continue
		}
		c.tryShared(*now, take)
		if c.answer == Ask {
			asks++
		}
		take = take && (c.answer != Decided || c.outcome.Admitted || c.rule.shadow)
	}
	if asks > 0 {
		l.ask(ctx, charges, take, !allowed)
		*now = l.now()
	}
	by = backendRedis
	for i := range charges {
		c := &charges[i]
		switch {
		case c.rule.shared == nil || c.skipped:
			continue
		case c.answer == Away:
			by = backendFallback
			c.standInForStore(l, *now, allowed)
		}
		if c.outcome.Admitted && c.outcome.Delay > c.longest {
			c.turnAway(l, *now)
		}
		allowed = allowed && (c.outcome.Admitted || c.rule.shadow)
	}
	return allowed, by
}

// tryShared asks what this node knows of a bucket.
func (c *charge) tryShared(now Instant, take bool) {
	if !take || c.hits == 0 {
		c.outcome, c.answer = c.rule.shared.Peek(c.key(), now, max(c.hits, 1))
		return
	}
	c.outcome, c.answer = c.rule.shared.Take(c.key(), now, c.hits)
	c.taken = c.answer == Decided && c.outcome.Admitted
}

// askings are reused: what is asked of the store is given to others, and so would be allocated for each decision.
var askings = sync.Pool{New: func() any { return &[]Asking{} }}

// ask asks the store about the charges that nobody here could decide, to take if take. If others have denied they need
// not be asked at all, unless nothing was to be taken.
func (l *Limiter) ask(ctx context.Context, charges []charge, take, denied bool) {
	all := askings.Get().(*[]Asking)
	defer func() {
		clear(*all)
		*all = (*all)[:0]
		askings.Put(all)
	}()
	for i := range charges {
		c := &charges[i]
		switch {
		case c.rule.shared == nil || c.answer != Ask:
		case c.hits > 0 && (denied || !take):
			c.skipped = true
		default:
			*all = append(*all, Asking{
				Shared: c.rule.shared, Key: c.key(), Hits: max(c.hits, 1), Peek: c.hits == 0, Shadow: c.rule.shadow,
			})
		}
	}
	if len(*all) == 0 {
		return
	}
	l.store.Ask(ctx, *all)
	tell(charges, *all)
}

// tell tells the charges what came of asking.
func tell(charges []charge, asked []Asking) {
	taken := true
	for i := range asked {
		a := &asked[i]
		taken = taken && (a.Peek || a.Shadow || a.Answer != Decided || a.Outcome.Admitted)
	}
	for i := range charges {
		c := &charges[i]
		if c.rule.shared == nil || c.answer != Ask || c.skipped {
			continue
		}
		c.outcome, c.answer = asked[0].Outcome, asked[0].Answer
		c.taken = taken && c.hits > 0 && c.answer == Decided && c.outcome.Admitted
		asked = asked[1:]
	}
}

// standInWait is what who is denied because the store is away is told to wait: when it is back nobody knows.
const standInWait = time.Second

// standIn is what decides in the place of the store.
type standIn uint8

const (
	standInNone  standIn = iota // the store decided, or no bucket
	standInLocal                // this process' own bucket
	standInShare                // the same, with a part of the limit
)

// instead is the algorithm that stands in for the store.
func (c *charge) instead(l *Limiter) Algorithm {
	if c.standIn == standInShare {
		return c.rule.share(l)
	}
	return c.rule.algorithm
}

// standInForStore decides by the policy's on_store_failure.
func (c *charge) standInForStore(l *Limiter, now Instant, take bool) {
	p := &c.rule.policy
	switch p.OnStoreFailure {
	case policy.StoreFailureOpen:
		c.outcome = Outcome{Admitted: true, Remaining: p.Burst}
		c.taken = take && c.hits > 0 // of nobody's bucket
		return
	case policy.StoreFailureClosed:
		c.outcome = Outcome{RetryAfter: standInWait}
		return
	case policy.StoreFailureShare:
		c.standIn = standInShare
	default:
		c.standIn = standInLocal
	}
	if !take || c.hits == 0 {
		c.outcome = c.instead(l).Peek(c.bucket(l), now, max(c.hits, 1))
		return
	}
	c.outcome = c.instead(l).Take(c.bucket(l), now, c.hits)
	c.taken = c.outcome.Admitted
}

// spent tells the shared limits of what was admitted in their place.
func spent(charges []charge, now Instant) {
	for i := range charges {
		if c := &charges[i]; c.rule.shared != nil && c.standIn != standInNone && c.taken {
			c.rule.shared.Spent(c.key(), now, c.hits)
		}
	}
}

// portion is a policy's limit for one of so many nodes.
type portion struct {
	nodes     int
	algorithm Algorithm
}

// share is the algorithm of this node's part of the limit. It is made anew when the number of nodes changes.
func (r *Rule) share(l *Limiter) Algorithm {
	nodes := max(l.store.Nodes(), 1)
	if now := r.portion.Load(); now != nil && now.nodes == nodes {
		return now.algorithm
	}
	p := r.policy
	// A rate of less than one a window is one in so many windows.
	n := uint64(nodes)
	if p.Limit >= n {
		p.Limit /= n
	} else if longer := p.Window * time.Duration(nodes) / time.Duration(p.Limit); longer > 0 {
		p.Limit, p.Window = 1, longer
	}
	p.Burst = max(p.Burst/n, 1)
	algorithm, err := l.newAlgorithm(p)
	if err != nil {
		algorithm = r.algorithm // so slow that it can't be counted: the whole limit then
	}
	r.portion.Store(&portion{nodes, algorithm})
	return algorithm
}

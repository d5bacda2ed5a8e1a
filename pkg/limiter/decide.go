package limiter

import (
	"context"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// fewCharges is how many buckets a decision charges without asking for memory.
const fewCharges = 8

// charge is one bucket that a decision asks.
type charge struct {
	rule  *Rule
	hash  uint64
	id    [16]byte // for all nodes, where they share the bucket
	hits  uint64
	query int  // whose answer it is part of
	taken bool // and has to be refunded if another denies
	// replaced marks what is on its way out: another that applies has its place.
	replaced bool
	// Of a bucket that nodes share:
	answer  Answer
	skipped bool    // nobody was asked, as another had denied: the outcome says nothing
	standIn standIn // for the store

	longest time.Duration // that the query would wait
	outcome Outcome
}

func (c *charge) bucket(l *Limiter) Bucket { return Bucket{l.table, c.hash} }

func (c *charge) key() Key { return Key{c.hash, c.id} }

// decide charges all of the buckets or none, which it is if denied already: first those of this process, then those
// that nodes share, as to ask for these takes longest, and places in queues last, as they can't be
// given back as if they had never been taken. Each charge says afterwards what its bucket thinks.
func (l *Limiter) decide(ctx context.Context, charges []charge, now Instant, denied bool) (allowed bool, by backend) {
	allowed = !denied
	queues, shared := false, false
	for i := range charges {
		switch c := &charges[i]; {
		case c.rule.shared != nil:
			shared = true
		case c.rule.queues:
			queues = true
		default:
			allowed = c.decide(l, now, allowed) && allowed
		}
	}
	if shared {
		allowed, by = l.decideShared(ctx, charges, &now, allowed)
	}
	for i := 0; queues && i < len(charges); i++ {
		if c := &charges[i]; c.rule.queues && c.rule.shared == nil {
			allowed = c.decide(l, now, allowed) && allowed
		}
	}
	switch {
	case !allowed:
		l.refund(charges, now)
	case by == backendFallback:
		spent(charges, now)
	}
	return allowed, by
}

// decide charges one bucket, unless another has denied, and tells whether this one lets the others be charged.
func (c *charge) decide(l *Limiter, now Instant, take bool) (goOn bool) {
	take = take && c.hits > 0
	if !take || c.rule.queues && c.longest != Never {
		c.outcome = c.rule.algorithm.Peek(c.bucket(l), now, max(c.hits, 1))
		take = take && c.outcome.Delay <= c.longest
	}
	if take {
		c.outcome = c.rule.algorithm.Take(c.bucket(l), now, c.hits)
		c.taken = c.outcome.Admitted
	}
	if c.outcome.Admitted && c.outcome.Delay > c.longest {
		c.turnAway(l, now)
	}
	return c.outcome.Admitted || c.rule.shadow
}

// turnAway denies what would have to wait too long, and gives back its place: else those who don't wait
// for their turn would keep the queue too long for all others.
func (c *charge) turnAway(l *Limiter, now Instant) {
	retry := c.outcome.Delay - c.longest
	if c.taken {
		c.giveBack(l, now)
		c.taken = false
		c.outcome = c.look(l, now)
	}
	c.outcome.Admitted, c.outcome.RetryAfter, c.outcome.Delay = false, retry, 0
}

// giveBack undoes what was taken of one bucket.
func (c *charge) giveBack(l *Limiter, now Instant) {
	switch {
	case c.rule.shared == nil:
		c.rule.algorithm.Refund(c.bucket(l), now, c.outcome, c.hits)
	case c.answer == Decided:
		c.rule.shared.Refund(c.key(), now, c.outcome, c.hits)
	case c.standIn != standInNone:
		c.instead(l).Refund(c.bucket(l), now, c.outcome, c.hits)
	}
}

// look says what there is in a bucket that was charged, and given back.
func (c *charge) look(l *Limiter, now Instant) Outcome {
	switch {
	case c.rule.shared == nil:
		return c.rule.algorithm.Peek(c.bucket(l), now, c.hits)
	case c.standIn != standInNone:
		return c.instead(l).Peek(c.bucket(l), now, c.hits)
	case c.answer == Decided:
		if o, answer := c.rule.shared.Peek(c.key(), now, c.hits); answer == Decided {
			return o
		}
	}
	// To ask the store once more would take as long again: what it said still holds, but for these hits.
	o := c.outcome
	o.Remaining = min(o.Remaining+c.hits, c.rule.policy.Burst)
	return o
}

// refund undoes what was taken, the last first, and then asks what there is: the same bucket may be among
// the charges more than once.
func (l *Limiter) refund(charges []charge, now Instant) {
	for i := len(charges) - 1; i >= 0; i-- {
		if c := &charges[i]; c.taken {
			if c.rule.queues {
				// Another queue has denied. What is denied must not fill this one, even if who came at the same moment
				// gets the turn of who comes next.
				c.outcome.Found = [2]bucket.Ticks{}
			}
			c.giveBack(l, now)
		}
	}
	for i := range charges {
		if c := &charges[i]; c.taken {
			as := c.look(l, now)
			c.outcome.Remaining, c.outcome.ResetAfter = as.Remaining, as.ResetAfter
			c.taken = false
		}
	}
}

// count tells each policy what it decided. A question without hits is none.
func count(charges []charge) {
	mine := stripe()
	for i := range charges {
		c := &charges[i]
		if c.hits == 0 || c.skipped {
			continue
		}
		n := c.rule.counters.of(mine)
		switch {
		case c.taken:
			n.allowed.Add(1)
		case c.outcome.Admitted:
			n.refunded.Add(1)
		case c.rule.shadow:
			n.shadowExceeded.Add(1)
		default:
			n.exceeded.Add(1)
		}
		if c.outcome.Pressure {
			n.pressure.Add(1)
		}
	}
}

// result is what one query is told, by the most restrictive of its charges.
func result(charges []charge, query int, r *Result) {
	var most *charge
	allowed := true
	var delay time.Duration
	shadow := ""
	for i := range charges {
		c := &charges[i]
		switch {
		case c.query != query || c.skipped:
			continue
		case c.rule.shadow:
			if !c.outcome.Admitted && shadow == "" {
				shadow = c.rule.policy.Name
			}
			continue
		case !c.outcome.Admitted:
			allowed = false
		}
		delay = max(delay, c.outcome.Delay)
		if most == nil || stricter(&c.outcome, &most.outcome) {
			most = c
		}
	}
	r.Allowed, r.Shadow = allowed, shadow
	if most == nil {
		return
	}
	p, o := &most.rule.policy, &most.outcome
	r.Policy, r.Limit, r.Window, r.Burst = p.Name, p.Limit, p.Window, p.Burst
	r.Remaining, r.ResetAfter, r.RetryAfter = o.Remaining, o.ResetAfter, o.RetryAfter
	r.Headers = most.rule.headers
	if allowed {
		r.Delay = delay
	}
}

// stricter tells whether a is what the client should hear of rather than b: a denial, then the longer wait,
// then the fewer hits left.
func stricter(a, b *Outcome) bool {
	switch {
	case a.Admitted != b.Admitted:
		return b.Admitted
	case !a.Admitted:
		return a.RetryAfter > b.RetryAfter
	case a.Remaining != b.Remaining:
		return a.Remaining < b.Remaining
	}
	return a.ResetAfter > b.ResetAfter
}

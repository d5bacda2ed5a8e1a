package limiter

import (
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// concurrency limits how many are in flight. What is never released is forgotten one window after it was
// admitted at the earliest, and two at the latest: that is what a window of time counts here, and why one
// that takes longer than a window may be missed. Until then the count is exact.
type concurrency struct{ window }

func newConcurrency(p policy.Policy) (Algorithm, error) {
	w, err := newWindow(p, policy.MaxLease)
	return &concurrency{w}, err
}

// Releasing is an [Algorithm] whose grants last until they are given back: [Limiter.Release] then calls
// Refund with the Grant of the outcome, and nothing else of it.
type Releasing interface {
	Algorithm
	Releasing()
}

var _ Releasing = (*concurrency)(nil)

// Releasing marks it.
func (*concurrency) Releasing() {}

// cycle is when ticks begin at 0 again, in nanoseconds. Windows then have the numbers that they had 2.28 years
// before: what was never released then, and never evicted since, is counted for one more window.
const cycle time.Duration = 1 << 56

// now cuts the limiter's own time, which nobody sets. The last window before it wraps lasts until it does.
func (a *concurrency) now(now Instant) slice {
	t := now.Ticks.Duration()
	s := a.at(t)
	last := uint64(cycle/a.length) - 1
	if s.number >= last {
		start := time.Duration(last) * a.length
		s = slice{last, t - start, cycle - t}
	}
	return s
}

func (a *concurrency) before(s slice) slice {
	if s.number == 0 {
		return slice{number: uint64(cycle/a.length) - 1}
	}
	return s.before()
}

// inFlight is how many of the window before have a place, and for how long at most.
func (a *concurrency) inFlight(b Bucket, now Instant, s slice) (count uint32, left bucket.Ticks) {
	count, left = b.Table.Counted(a.before(s).hash(b), now.Ticks)
	return min(count, a.limit), left
}

func (a *concurrency) Take(b Bucket, now Instant, hits uint64) Outcome {
	if hits > uint64(a.limit) {
		return a.Peek(b, now, hits)
	}
	s := a.now(now)
	before, left := a.inFlight(b, now, s)
	c := a.count(b, now, s, hits, a.limit-before, a.length, false)
	return a.outcome(before, left, &c, hits)
}

func (a *concurrency) Peek(b Bucket, now Instant, hits uint64) Outcome {
	s := a.now(now)
	before, left := a.inFlight(b, now, s)
	c := a.look(b, now, s, hits, a.limit-before)
	return a.outcome(before, left, &c, hits)
}

func (a *concurrency) Refund(b Bucket, _ Instant, o Outcome, hits uint64) { a.refund(b, o, hits) }

func (a *concurrency) Reset(b Bucket, now Instant) {
	s := a.now(now)
	a.reset(b, now, s, a.before(s))
}

func (a *concurrency) outcome(before uint32, left bucket.Ticks, c *counted, hits uint64) Outcome {
	o := c.outcome
	// When others end nobody knows: soon, most likely.
	o.RetryAfter = a.retry(c, hits, min(a.length, time.Second))
	if c.lost {
		return o
	}
	free := a.limit - before
	o.Remaining = uint64(free - min(c.count, free))
	switch {
	case c.count > 0:
		o.ResetAfter = c.left
	case before > 0:
		o.ResetAfter = left.Duration()
	}
	return o
}

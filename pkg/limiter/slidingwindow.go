package limiter

import (
	"math/bits"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// slidingWindow grants what limit leaves beside the hits of this window and those of the one before,
// these counted by the part of it that the last window of time still covers: the approximation that
// Cloudflare described in 2017, which takes it that they came evenly. Here they count for nothing, too,
// as soon as the last of them was a window ago, so that a limit of 1 is not one in two windows.
//
// However they come, it admits at most limit in a window that begins at a multiple of its length, and at
// most limit + limit * t/window in any interval t. For let P be the hits of a window, of which a part f of
// the next has passed, and C what that one has admitted: P(1-f) + C <= limit, so that P and C together are at
// most limit + f * limit. And where P counts for nothing, the last window of time has C alone.
type slidingWindow struct{ window }

func newSlidingWindow(p policy.Policy) (Algorithm, error) {
	w, err := newWindow(p, policy.MaxRefill)
	return &slidingWindow{w}, err
}

// past is what the window before the present one still means.
type past struct {
	count   uint32
	left    time.Duration // until the last of it was a window ago
	covered uint32        // of count, rounded up; at most the limit
}

func (a *slidingWindow) past(b Bucket, now Instant, s slice) past {
	count, left := b.Table.Counted(s.before().hash(b), now.Ticks)
	return past{count, left.Duration(), min(a.covered(count, s.left), a.limit)}
}

// covered is the part of a count that the window before the present one has left, rounded up.
func (a *slidingWindow) covered(count uint32, left time.Duration) uint32 {
	hi, lo := bits.Mul64(uint64(count), uint64(left))
	lo, carry := bits.Add64(lo, uint64(a.length-1), 0)
	part, _ := bits.Div64(hi+carry, lo, uint64(a.length)) // left <= length: at most count
	return uint32(part)
}

func (a *slidingWindow) Take(b Bucket, now Instant, hits uint64) Outcome {
	if hits > uint64(a.limit) {
		return a.Peek(b, now, hits)
	}
	s := a.at(now.Unix)
	before := a.past(b, now, s)
	c := a.count(b, now, s, hits, a.limit-before.covered, a.length, false)
	return a.outcome(s, before, &c, hits)
}

func (a *slidingWindow) Peek(b Bucket, now Instant, hits uint64) Outcome {
	s := a.at(now.Unix)
	before := a.past(b, now, s)
	c := a.look(b, now, s, hits, a.limit-before.covered)
	return a.outcome(s, before, &c, hits)
}

func (a *slidingWindow) Refund(b Bucket, _ Instant, o Outcome, hits uint64) { a.refund(b, o, hits) }

func (a *slidingWindow) Reset(b Bucket, now Instant) {
	s := a.at(now.Unix)
	a.reset(b, now, s, s.before())
}

func (a *slidingWindow) outcome(s slice, before past, c *counted, hits uint64) Outcome {
	o := c.outcome
	o.RetryAfter = a.retry(c, hits, a.wait(s, before, c, hits))
	if c.lost {
		return o
	}
	free := a.limit - before.covered
	o.Remaining = uint64(free - min(c.count, free))
	switch {
	case c.count > 0:
		o.ResetAfter = c.left
	case before.count > 0:
		o.ResetAfter = min(before.left, s.left)
	}
	return o
}

// wait is how long it takes until hits fit if nobody else comes.
func (a *slidingWindow) wait(s slice, before past, c *counted, hits uint64) time.Duration {
	limit := uint64(a.limit)
	switch {
	case hits > limit:
		return Never
	case uint64(c.count)+hits <= limit: // in this window, as soon as enough of the last one is out of sight
		return min(a.until(before.count, uint32(limit-uint64(c.count)-hits))-s.elapsed, before.left)
	}
	return min(s.left+a.until(c.count, uint32(limit-hits)), c.left) // in the next, when this one is the last
}

// until is how far into a window the hits of the one before count as fit at most.
func (a *slidingWindow) until(before, fit uint32) time.Duration {
	if before <= fit {
		return 0
	}
	hi, lo := bits.Mul64(uint64(a.length), uint64(before-fit))
	lo, carry := bits.Add64(lo, uint64(before-1), 0)
	part, _ := bits.Div64(hi+carry, lo, uint64(before))
	return time.Duration(part)
}

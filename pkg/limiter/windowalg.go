package limiter

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// window counts hits by windows of time, each in a counter of its own in the table.
type window struct {
	limit     uint32
	length    time.Duration
	lives     int // windows that a counter is good for, its own included
	evictDebt bool
}

func newWindow(p policy.Policy, lives int) (window, error) {
	if p.Limit > math.MaxUint32 {
		return window{}, fmt.Errorf("a limit of %d is more than a window counts (lower it to at most %d)", p.Limit, uint32(math.MaxUint32))
	}
	return window{uint32(p.Limit), p.Window, lives, p.OnPressure != policy.PressureDrop}, nil
}

// slice is one window and where in it the present is.
type slice struct {
	number        uint64
	elapsed, left time.Duration
}

// at cuts time, which began at 0, into windows.
func (w *window) at(t time.Duration) slice {
	elapsed := t % w.length
	return slice{uint64(t / w.length), elapsed, w.length - elapsed}
}

// hash names a window's counter. That of the next window is in another set of the table.
func (s slice) hash(b Bucket) uint64 { return mix(b.Hash + s.number*0x9e3779b97f4a7c15) }

func (s slice) before() slice { return slice{number: s.number - 1} }

// count adds hits to a window's counter if they are at most most then.
func (w *window) count(b Bucket, now Instant, s slice, hits uint64, most uint32) (counted uint32, flags bucket.Taken) {
	n := uint32(min(hits, math.MaxUint32))
	expires := now.Ticks + ticks(s.left+time.Duration(w.lives-1)*w.length)
	for range contendedTries {
		counted, flags = b.Table.Count(s.hash(b), now.Ticks, expires, n, most, w.evictDebt)
		if flags&bucket.Contended == 0 {
			break
		}
	}
	return counted, flags
}

func (w *window) refund(b Bucket, o Outcome, hits uint64) {
	b.Table.Uncount(slice{number: o.Grant}.hash(b), uint32(hits))
}

func (w *window) reset(b Bucket, s slice) {
	for range w.lives {
		hash := s.hash(b)
		b.Table.Uncount(hash, b.Table.Counted(hash))
		s = s.before()
	}
}

// fixedWindow grants limit in each window, which all begin at multiples of their length since 1970. In
// any interval t that is at most (ceil(t/window) + 1) limit: twice the limit in no time, around the edge
// of two windows.
type fixedWindow struct{ window }

func newFixedWindow(p policy.Policy) (Algorithm, error) {
	w, err := newWindow(p, 1)
	return &fixedWindow{w}, err
}

func (a *fixedWindow) Take(b Bucket, now Instant, hits uint64) Outcome {
	s := a.at(now.Unix)
	counted, flags := a.count(b, now, s, hits, a.limit)
	return a.outcome(s, counted, hits, flags&bucket.Admitted != 0, flags)
}

func (a *fixedWindow) Peek(b Bucket, now Instant, hits uint64) Outcome {
	s := a.at(now.Unix)
	counted := b.Table.Counted(s.hash(b))
	return a.outcome(s, counted, hits, uint64(counted)+hits <= uint64(a.limit), 0)
}

func (a *fixedWindow) Refund(b Bucket, _ Instant, o Outcome, hits uint64) { a.refund(b, o, hits) }

func (a *fixedWindow) Reset(b Bucket, now Instant) { a.reset(b, a.at(now.Unix)) }

func (a *fixedWindow) outcome(s slice, counted uint32, hits uint64, admitted bool, flags bucket.Taken) Outcome {
	o := Outcome{Admitted: admitted, Pressure: flags&bucket.Pressure != 0, Grant: s.number}
	o.Remaining = uint64(a.limit - min(counted, a.limit))
	if counted > 0 {
		o.ResetAfter = s.left
	}
	if !admitted {
		o.RetryAfter = s.left
		if hits > uint64(a.limit) {
			o.RetryAfter = Never
		}
	}
	return o
}

// slidingWindow grants what limit leaves beside the hits of this window and those of the one before,
// these counted by the part of it that the last window of time still covers: the approximation that
// Cloudflare described in 2017. It assumes that they came evenly. Whatever they did, it admits at most
// limit in a window that begins at a multiple of its length, and at most limit + limit * t/window in
// any interval t: let P be the hits of a window and f the part of the next that has passed, then P(1-f) + C <= limit for the
// C that it has admitted, so that any x <= P and C after one another are at most limit + f * limit.
type slidingWindow struct{ window }

func newSlidingWindow(p policy.Policy) (Algorithm, error) {
	w, err := newWindow(p, 2)
	return &slidingWindow{w}, err
}

// covered is the part of a count that the window before the present one has left, rounded up.
func (a *slidingWindow) covered(count uint32, left time.Duration) uint32 {
	hi, lo := bits.Mul64(uint64(count), uint64(left))
	lo, carry := bits.Add64(lo, uint64(a.length-1), 0)
	part, _ := bits.Div64(hi+carry, lo, uint64(a.length)) // left <= length: at most count
	return uint32(part)
}

func (a *slidingWindow) Take(b Bucket, now Instant, hits uint64) Outcome {
	s := a.at(now.Unix)
	before := b.Table.Counted(s.before().hash(b))
	covered := min(a.covered(before, s.left), a.limit)
	counted, flags := a.count(b, now, s, hits, a.limit-covered)
	return a.outcome(s, before, covered, counted, hits, flags&bucket.Admitted != 0, flags)
}

func (a *slidingWindow) Peek(b Bucket, now Instant, hits uint64) Outcome {
	s := a.at(now.Unix)
	before, counted := b.Table.Counted(s.before().hash(b)), b.Table.Counted(s.hash(b))
	covered := min(a.covered(before, s.left), a.limit)
	return a.outcome(s, before, covered, counted, hits, uint64(covered)+uint64(counted)+hits <= uint64(a.limit), 0)
}

func (a *slidingWindow) Refund(b Bucket, _ Instant, o Outcome, hits uint64) { a.refund(b, o, hits) }

func (a *slidingWindow) Reset(b Bucket, now Instant) { a.reset(b, a.at(now.Unix)) }

func (a *slidingWindow) outcome(s slice, before, covered, counted uint32, hits uint64, admitted bool, flags bucket.Taken) Outcome {
	o := Outcome{Admitted: admitted, Pressure: flags&bucket.Pressure != 0, Grant: s.number}
	free := a.limit - covered
	o.Remaining = uint64(free - min(counted, free))
	switch {
	case counted > 0:
		o.ResetAfter = s.left + a.length
	case before > 0:
		o.ResetAfter = s.left
	}
	if !admitted {
		o.RetryAfter = a.wait(s, before, counted, hits)
	}
	return o
}

// wait is how long it takes until hits fit, if nobody else comes.
func (a *slidingWindow) wait(s slice, before, counted uint32, hits uint64) time.Duration {
	limit := uint64(a.limit)
	switch {
	case hits > limit:
		return Never
	case uint64(counted)+hits <= limit: // in this window, as soon as enough of the last one is out of sight
		return a.until(before, uint32(limit-uint64(counted)-hits)) - s.elapsed
	}
	return s.left + a.until(counted, uint32(limit-hits)) // in the next, when this one is the last
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

// concurrency limits how many are in flight. What is never released is forgotten one window after it was
// admitted at the earliest, and two at the latest: that is what a window of time counts here, and why one
// that takes longer than a window may be missed. Until then the count is exact.
type concurrency struct{ window }

func newConcurrency(p policy.Policy) (Algorithm, error) {
	w, err := newWindow(p, 2)
	return &concurrency{w}, err
}

// releases marks an algorithm whose grants last until they are given back.
type releases interface{ releases() }

func (*concurrency) releases() {}

// now cuts the limiter's own time, which nobody sets.
func (a *concurrency) now(now Instant) slice { return a.at(now.Ticks.Duration()) }

func (a *concurrency) Take(b Bucket, now Instant, hits uint64) Outcome {
	s := a.now(now)
	before := min(b.Table.Counted(s.before().hash(b)), a.limit)
	counted, flags := a.count(b, now, s, hits, a.limit-before)
	return a.outcome(s, before, counted, hits, flags&bucket.Admitted != 0, flags)
}

func (a *concurrency) Peek(b Bucket, now Instant, hits uint64) Outcome {
	s := a.now(now)
	before, counted := min(b.Table.Counted(s.before().hash(b)), a.limit), b.Table.Counted(s.hash(b))
	return a.outcome(s, before, counted, hits, uint64(before)+uint64(counted)+hits <= uint64(a.limit), 0)
}

func (a *concurrency) Refund(b Bucket, _ Instant, o Outcome, hits uint64) { a.refund(b, o, hits) }

func (a *concurrency) Reset(b Bucket, now Instant) { a.reset(b, a.now(now)) }

func (a *concurrency) outcome(s slice, before, counted uint32, hits uint64, admitted bool, flags bucket.Taken) Outcome {
	o := Outcome{Admitted: admitted, Pressure: flags&bucket.Pressure != 0, Grant: s.number}
	free := a.limit - before
	o.Remaining = uint64(free - min(counted, free))
	switch {
	case counted > 0:
		o.ResetAfter = s.left + a.length
	case before > 0:
		o.ResetAfter = s.left
	}
	if !admitted {
		// When others end nobody knows: soon, most likely.
		o.RetryAfter = min(a.length, time.Second)
		if hits > uint64(a.limit) {
			o.RetryAfter = Never
		}
	}
	return o
}

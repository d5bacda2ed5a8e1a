package limiter

import (
	"fmt"
	"math"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// maxFixedWindow is the longest fixed window of a rule, a leap year. The table keeps a count for [bucket.DepthMax] at most, 104
// days after it was asked for: in a longer window, who does not ask for so long begins anew.
const maxFixedWindow = 366 * 24 * time.Hour

// window counts hits by windows of time, each in a counter of its own in the table.
type window struct {
	limit     uint32
	length    time.Duration
	evictDebt bool
}

func newWindow(p policy.Policy, longest time.Duration) (window, error) {
	switch {
	case p.Limit == 0 || p.Limit > math.MaxUint32:
		return window{}, fmt.Errorf("a window can't count to a limit of %d (use 1 to %d)", p.Limit, uint32(math.MaxUint32))
	case p.Window <= 0 || p.Window > longest:
		return window{}, fmt.Errorf("a window of %v can't be counted by (use one of up to %v)", p.Window, longest)
	}
	return window{uint32(p.Limit), p.Window, p.OnPressure != policy.PressureDrop}, nil
}

// slice is one window and where in it the present is.
type slice struct {
	number        uint64
	elapsed, left time.Duration
}

// at cuts time into windows, one of which begins at 0.
func (w *window) at(t time.Duration) slice {
	number, elapsed := t/w.length, t%w.length
	if elapsed < 0 { // a machine without a battery may be before 1970
		number, elapsed = number-1, elapsed+w.length
	}
	return slice{uint64(number), elapsed, w.length - elapsed}
}

// hash names a window's counter. That of the next window is in another set of the table.
func (s slice) hash(b Bucket) uint64 { return mix(b.Hash + s.number*0x9e3779b97f4a7c15) }

func (s slice) before() slice { return slice{number: s.number - 1} }

// counted is what came of counting: the count, and of what was admitted the outcome's Grant and Found.
type counted struct {
	count    uint32
	left     time.Duration // that the count is good for
	admitted bool
	lost     bool // by pressure, or to others' swaps: the count says nothing
	outcome  Outcome
}

// count adds hits, no more than the limit, to a window's counter if they are at most most then. They are good for a time, and held for
// it if a denial shall not let them be forgotten.
func (w *window) count(b Bucket, now Instant, s slice, hits uint64, most uint32, good time.Duration, hold bool) counted {
	c := bucket.Counting{
		N: uint32(hits), Most: most, Expires: now.Ticks + ticks(good), Hold: hold, EvictDebt: w.evictDebt,
	}
	flags := b.Table.Count(s.hash(b), now.Ticks, &c)
	for tries := 0; flags&bucket.Contended != 0 && tries < contendedTries; tries++ {
		flags = b.Table.Count(s.hash(b), now.Ticks, &c)
	}
	admitted := flags&bucket.Admitted != 0
	return counted{
		count:    c.Count,
		left:     bucket.Debt(c.After, now.Ticks).Duration(),
		admitted: admitted,
		lost:     !admitted && flags&(bucket.Pressure|bucket.Contended) != 0,
		outcome: Outcome{
			Admitted: admitted, Pressure: flags&bucket.Pressure != 0,
			Grant: s.number, Found: [2]bucket.Ticks{c.Before, c.After},
		},
	}
}

// look is count for nothing: whether hits would be admitted.
func (w *window) look(b Bucket, now Instant, s slice, hits uint64, most uint32) counted {
	hash := s.hash(b)
	count, left := b.Table.Counted(hash, now.Ticks)
	c := counted{count: count, left: left.Duration(), admitted: hits <= uint64(most) && uint64(count) <= uint64(most)-hits}
	if c.admitted && !w.evictDebt && b.Table.Pressed(hash, now.Ticks) {
		c.admitted, c.lost, c.outcome.Pressure = false, true, true
	}
	c.outcome.Admitted = c.admitted
	return c
}

func (w *window) refund(b Bucket, o Outcome, hits uint64) {
	hash := slice{number: o.Grant}.hash(b)
	for range contendedTries {
		if b.Table.Uncount(hash, uint32(hits), o.Found[0], o.Found[1]) {
			return
		}
	}
}

func (w *window) reset(b Bucket, now Instant, slices ...slice) {
	for _, s := range slices {
		count, _ := b.Table.Counted(s.hash(b), now.Ticks)
		w.refund(b, Outcome{Grant: s.number}, uint64(count))
	}
}

// retry is the wait of hits that were not admitted, if those that are there let it be known.
func (w *window) retry(c *counted, hits uint64, known time.Duration) time.Duration {
	switch {
	case c.admitted:
		return 0
	case hits > uint64(w.limit):
		return Never
	case c.lost:
		return time.Second // the table knows no time at which that is over
	}
	return known
}

// fixedWindow grants limit in each window, which all begin at multiples of their length since 1970. In
// any interval t that is at most (ceil(t/window) + 1) limit: twice the limit in no time, around the edge
// of two windows. Should the wall clock be set back, hits that were counted before are forgotten when the
// window that they were counted in would have ended without that.
type fixedWindow struct{ window }

func newFixedWindow(p policy.Policy) (Algorithm, error) {
	w, err := newWindow(p, maxFixedWindow)
	return &fixedWindow{w}, err
}

func (a *fixedWindow) Take(b Bucket, now Instant, hits uint64) Outcome {
	if hits > uint64(a.limit) {
		return a.Peek(b, now, hits)
	}
	s := a.at(now.Unix)
	c := a.count(b, now, s, hits, a.limit, s.left, true)
	return a.outcome(s, &c, hits)
}

func (a *fixedWindow) Peek(b Bucket, now Instant, hits uint64) Outcome {
	s := a.at(now.Unix)
	c := a.look(b, now, s, hits, a.limit)
	return a.outcome(s, &c, hits)
}

func (a *fixedWindow) Refund(b Bucket, _ Instant, o Outcome, hits uint64) { a.refund(b, o, hits) }

func (a *fixedWindow) Reset(b Bucket, now Instant) { a.reset(b, now, a.at(now.Unix)) }

func (a *fixedWindow) outcome(s slice, c *counted, hits uint64) Outcome {
	o := c.outcome
	o.RetryAfter = a.retry(c, hits, s.left)
	if c.lost {
		return o
	}
	o.Remaining = uint64(a.limit - min(c.count, a.limit))
	if c.count > 0 {
		o.ResetAfter = s.left
	}
	return o
}

package limiter

import (
	"sync/atomic"
	"time"
)

// stripes is into how many parts a counter is split, by the hash of the bucket, so that cores that decide
// over different buckets do not wait for one another's cache line. A power of two.
const stripes = 8

// counters are the decisions of one policy.
type counters struct{ stripe [stripes]ruleStripe }

type ruleStripe struct {
	allowed, exceeded, shadowExceeded, refunded, pressure atomic.Uint64

	_ [3]uint64 // to a cache line
}

func (c *counters) of(hash uint64) *ruleStripe { return &c.stripe[hash%stripes] }

// ruleCount is the sum of a policy's stripes.
type ruleCount struct{ allowed, exceeded, shadowExceeded, refunded, pressure uint64 }

func (c *counters) sum() (n ruleCount) {
	for i := range c.stripe {
		s := &c.stripe[i]
		n.allowed += s.allowed.Load()
		n.exceeded += s.exceeded.Load()
		n.shadowExceeded += s.shadowExceeded.Load()
		n.refunded += s.refunded.Load()
		n.pressure += s.pressure.Load()
	}
	return n
}

// durationBounds are the upper bounds of the histogram of decisions, finest where decisions in memory are.
var durationBounds = [...]time.Duration{
	500 * time.Nanosecond, time.Microsecond, 2 * time.Microsecond, 5 * time.Microsecond, 10 * time.Microsecond,
	20 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond,
}

// totals are the decisions of a limiter.
type totals struct{ stripe [stripes]totalStripe }

type totalStripe struct {
	allowed, exceeded atomic.Uint64
	nanoseconds       atomic.Uint64
	durations         [len(durationBounds) + 1]atomic.Uint64

	_ [1]uint64 // to a cache line
}

func (t *totals) observe(hash uint64, allowed bool, took time.Duration) {
	s := &t.stripe[hash%stripes]
	if allowed {
		s.allowed.Add(1)
	} else {
		s.exceeded.Add(1)
	}
	i := 0
	for i < len(durationBounds) && took > durationBounds[i] {
		i++
	}
	s.durations[i].Add(1)
	s.nanoseconds.Add(uint64(max(took, 0)))
}

// totalCount is the sum of a limiter's stripes.
type totalCount struct {
	allowed, exceeded uint64
	took              time.Duration
	durations         [len(durationBounds) + 1]uint64
}

func (t *totals) sum() (n totalCount) {
	for i := range t.stripe {
		s := &t.stripe[i]
		n.allowed += s.allowed.Load()
		n.exceeded += s.exceeded.Load()
		n.took += time.Duration(s.nanoseconds.Load())
		for b := range s.durations {
			n.durations[b] += s.durations[b].Load()
		}
	}
	return n
}

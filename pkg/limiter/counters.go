package limiter

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// A counter is split into stripes, each of a cache line of its own, so that cores do not wait for one another:
// two that added to one line would cost each other more than all else that a decision takes. Powers of two.
const (
	ruleStripes  = 16
	totalStripes = 64
)

// stripe is a number of the calling goroutine's, most of the time: made of where its stack is, as nothing else
// tells cores apart that a program may ask.
func stripe() uint64 {
	var here byte
	const stack = 11 // bits: the smallest stack has 2 KiB
	return uint64(uintptr(unsafe.Pointer(&here))>>stack) * 0x9e3779b97f4a7c15 >> 58
}

// counters are the decisions of one policy.
type counters struct{ stripe [ruleStripes]ruleStripe }

type ruleStripe struct {
	allowed, exceeded, shadowExceeded, refunded, pressure atomic.Uint64

	_ [3]uint64 // to a cache line
}

func (c *counters) of(stripe uint64) *ruleStripe { return &c.stripe[stripe%ruleStripes] }

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

// backend is where the state is that a decision rests on.
type backend uint8

const (
	backendMemory   backend = iota // in this process alone, as the policies want it
	backendRedis                   // shared, at least of one policy
	backendFallback                // ... but the store was away for at least one
	backends
)

// totals are the decisions of a limiter by one backend.
type totals struct{ stripe [totalStripes]totalStripe }

type totalStripe struct {
	allowed, exceeded atomic.Uint64
	nanoseconds       atomic.Uint64
	durations         [len(durationBounds) + 1]atomic.Uint64

	_ [1]uint64 // to a cache line
}

// Of each stripe the first decisions are timed, and then every sixteenth, which counts for as many: to look
// at the clock once more would take a good part of the time that a decision takes.
const (
	timedFirst = 64
	timedEvery = 16
)

// decisions is how many were counted.
func (s *totalStripe) decisions() uint64 { return s.allowed.Load() + s.exceeded.Load() }

// weight is how many decisions the duration of the one after before others is to count for: 0 if it need not be known. Goroutines
// that share a stripe may ask about the same one, so that a few are timed too often or not at all.
func weight(before uint64) uint64 {
	switch next := before + 1; {
	case next <= timedFirst:
		return 1
	case next%timedEvery == 0:
		return timedEvery
	}
	return 0
}

func (s *totalStripe) count(allowed bool) {
	if allowed {
		s.allowed.Add(1)
	} else {
		s.exceeded.Add(1)
	}
}

func (s *totalStripe) time(took time.Duration, weight uint64) {
	i := 0
	for i < len(durationBounds) && took > durationBounds[i] {
		i++
	}
	s.durations[i].Add(weight)
	s.nanoseconds.Add(uint64(max(took, 0)) * weight)
}

// totalCount is the sum of a limiter's stripes.
type totalCount struct {
	allowed, exceeded uint64
	timed             uint64        // decisions that took stands for
	took              time.Duration // together
	durations         [len(durationBounds) + 1]uint64
}

func (t *totals) sum() (n totalCount) {
	for i := range t.stripe {
		s := &t.stripe[i]
		n.allowed += s.allowed.Load()
		n.exceeded += s.exceeded.Load()
		n.took += time.Duration(s.nanoseconds.Load())
		for b := range s.durations {
			d := s.durations[b].Load()
			n.durations[b] += d
			n.timed += d
		}
	}
	return n
}

package top

import (
	"math"
	"time"
)

// window is the time that a report looks at: from the beginning of a second, or of listening, until now.
type window struct {
	now, begin time.Duration
	first      int64 // the second of begin
	whole      int64 // the first second of a history, which was listened to from its beginning
	seconds    float64
}

// newWindow looks at whole seconds of that length in all, and at the one that is running.
func newWindow(started, now, length time.Duration) window {
	begin := max(started, time.Duration(second(now))*time.Second-length)
	return window{
		now: now, begin: begin, first: second(begin), seconds: (now - begin).Seconds(),
		whole: max(second(started+time.Second-1), second(now)-Seconds),
	}
}

func (w window) rate(n uint64) float64 { return tenths(float64(n) / w.seconds) }

// estimate is the rate of n packets that were estimated with a variance, when some may be missing. The
// error is two standard deviations.
func (w window) estimate(n uint64, variance, missing float64) Rate {
	return Rate{w.rate(n), tenths((2*math.Sqrt(variance) + missing) / w.seconds)}
}

// faded is how much more there may have been within the window than is left of it in a ranking.
func (w window) faded() float64 { return math.Exp2(float64(w.now-w.begin) / float64(halfLife)) }

func (w window) history(passed, denied *series) History {
	end := second(w.now)
	return History{
		Passed: passed.history(w.whole, end, func(a *amount) uint64 { return a.passed }),
		Bytes:  passed.history(w.whole, end, func(a *amount) uint64 { return a.bytes }),
		Denied: denied.history(w.whole, end, (*amount).denied),
	}
}

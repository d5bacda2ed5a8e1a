package limiter

import (
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// firstInstant is where the ticks of a limiter begin: far enough from 0 for the windows before it.
const firstInstant = 1 << 20 * time.Second

// anchorEvery is how often the wall clock is read. Every decision asks the monotonic clock alone, which
// costs half of both.
const anchorEvery = time.Second

// clock is the machine's.
type clock struct {
	start  time.Time
	unix   atomic.Int64 // the wall clock less the monotonic one
	anchor atomic.Int64 // when the wall clock is to be read again
}

func newClock() *clock {
	c := &clock{start: time.Now()}
	c.anchor.Store(int64(firstInstant))
	return c
}

// now is the time since the limiter was made, and since 1970.
func (c *clock) now() Instant {
	mono := firstInstant + time.Since(c.start)
	if int64(mono) >= c.anchor.Load() {
		both := time.Now() // of both clocks at once
		mono = firstInstant + both.Sub(c.start)
		c.unix.Store(both.UnixNano() - int64(mono))
		c.anchor.Store(int64(mono + anchorEvery))
	}
	return Instant{Ticks: bucket.AtNanoseconds(uint64(mono)), Unix: mono + time.Duration(c.unix.Load())}
}

// ticks is a duration as the table counts it, at most [bucket.DepthMax].
func ticks(d time.Duration) bucket.Ticks {
	return bucket.AtNanoseconds(uint64(min(max(d, 0), bucket.DepthMax.Duration())))
}

package lab

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Latency is a histogram of durations with a resolution of 1/16 (6.25 %), from 16 ns to hours. The zero value is ready,
// and may be read while it is written.
type Latency struct {
	buckets [64 * 16]atomic.Uint64
	count   atomic.Uint64
}

// Observe adds a duration; a negative one counts as zero.
func (l *Latency) Observe(d time.Duration) {
	l.buckets[latencyBucket(uint64(max(d, 0)))].Add(1)
	l.count.Add(1)
}

// Count is how many durations were observed.
func (l *Latency) Count() uint64 { return l.count.Load() }

// Quantile returns the duration that the fraction q of the observed ones, from 0 to 1, did not exceed, rounded up by at most 1/16.
// It is 0 while nothing was observed.
func (l *Latency) Quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(l.Count())))
	var seen uint64
	for i := range l.buckets {
		seen += l.buckets[i].Load()
		if seen > 0 && seen >= rank {
			return latencyBound(i)
		}
	}
	return 0
}

// latencyBucket is linear up to 16 and then has 16 buckets per power of two.
func latencyBucket(v uint64) int {
	if v < 16 {
		return int(v)
	}
	shift := bits.Len64(v) - 5
	return shift*16 + int(v>>shift)
}

// latencyBound is the largest value in a bucket.
func latencyBound(i int) time.Duration {
	if i < 32 {
		return time.Duration(i)
	}
	shift := i/16 - 1
	return time.Duration(uint64(i%16+17)<<shift - 1)
}

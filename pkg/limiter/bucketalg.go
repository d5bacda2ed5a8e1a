package limiter

import (
	"fmt"
	"math"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// contendedTries is how often a charge that lost every swap against other CPUs is begun again. Each of
// its losses is another's success, so that even one is rare; the bound keeps a request from waiting.
const contendedTries = 64

// tokenBucket is the generic cell rate algorithm, as in the kernel: in any interval t it admits at most
// burst + rate * t.
type tokenBucket struct {
	limit     bucket.Limit
	evictDebt bool
}

func newTokenBucket(p policy.Policy) (Algorithm, error) {
	limit, err := bucket.NewLimit(p.Limit, p.Window, p.Burst)
	if err != nil {
		return nil, err
	}
	return &tokenBucket{limit, p.OnPressure != policy.PressureDrop}, nil
}

func (a *tokenBucket) Take(b Bucket, now Instant, hits uint64) Outcome {
	return take(b, now, hits, &a.limit, &a.limit, 0, a.evictDebt)
}

func (a *tokenBucket) Peek(b Bucket, now Instant, hits uint64) Outcome {
	return peek(b, now, hits, &a.limit, &a.limit, 0)
}

func (a *tokenBucket) Refund(b Bucket, _ Instant, _ Outcome, hits uint64) {
	b.Table.Refund(b.Hash, &a.limit, hits)
}

func (a *tokenBucket) Reset(b Bucket, now Instant) { b.Table.Reset(b.Hash, now.Ticks) }

// leakyBucket is a queue that one hit leaves at a time, as the bucket that it is named after leaks: what is
// admitted goes on at most 1 + rate * t times in any interval t, after the delay that the outcome tells,
// and what would be more than burst in the queue is denied.
type leakyBucket struct {
	pace      bucket.Limit // of the hits that leave
	queue     bucket.Limit // of those that wait: the same rate
	ahead     bucket.Ticks // how long the last in a full queue waits
	evictDebt bool
}

func newLeakyBucket(p policy.Policy) (Algorithm, error) {
	queue, err := bucket.NewLimit(p.Limit, p.Window, p.Burst)
	if err != nil {
		return nil, err
	}
	pace := queue
	pace.Burst, pace.Depth = 1, queue.Cost(1)
	return &leakyBucket{pace, queue, queue.Depth - pace.Depth, p.OnPressure != policy.PressureDrop}, nil
}

func (a *leakyBucket) Take(b Bucket, now Instant, hits uint64) Outcome {
	return take(b, now, hits, &a.pace, &a.queue, a.ahead, a.evictDebt)
}

func (a *leakyBucket) Peek(b Bucket, now Instant, hits uint64) Outcome {
	return peek(b, now, hits, &a.pace, &a.queue, a.ahead)
}

func (a *leakyBucket) Refund(b Bucket, _ Instant, _ Outcome, hits uint64) {
	b.Table.Refund(b.Hash, &a.queue, hits)
}

func (a *leakyBucket) Reset(b Bucket, now Instant) { b.Table.Reset(b.Hash, now.Ticks) }

// take charges a bucket of depth, whose admission is up to ahead later than that of limit.
func take(b Bucket, now Instant, hits uint64, limit, depth *bucket.Limit, ahead bucket.Ticks, evictDebt bool) Outcome {
	if hits > depth.Burst {
		return peek(b, now, hits, limit, depth, ahead)
	}
	c := bucket.Charge{Cost: depth.Cost(hits), Ahead: ahead, Tokens: uint32(min(hits, math.MaxUint32)), EvictDebt: evictDebt}
	flags := b.Table.Charge(b.Hash, limit, now.Ticks, &c)
	for tries := 0; flags&bucket.Contended != 0 && tries < contendedTries; tries++ {
		flags = b.Table.Charge(b.Hash, limit, now.Ticks, &c)
	}
	o := Outcome{
		Admitted:   flags&bucket.Admitted != 0,
		Pressure:   flags&bucket.Pressure != 0,
		Remaining:  depth.Tokens(c.TAT, now.Ticks),
		ResetAfter: roundUp(bucket.Debt(c.TAT, now.Ticks)),
	}
	switch {
	case o.Admitted:
		o.Delay = roundUp(c.Wait)
	case c.Wait > ahead:
		o.RetryAfter = roundUp(c.Wait - ahead)
	default: // pressure, or contention: the table knows no time at which that is over
		o.Remaining, o.RetryAfter = 0, time.Second
	}
	return o
}

func peek(b Bucket, now Instant, hits uint64, limit, depth *bucket.Limit, ahead bucket.Ticks) Outcome {
	tat := now.Ticks
	if e, known := b.Table.Lookup(b.Hash); known {
		tat = e.TAT
	}
	o := Outcome{Remaining: depth.Tokens(tat, now.Ticks), ResetAfter: roundUp(bucket.Debt(tat, now.Ticks))}
	if hits > depth.Burst {
		o.RetryAfter = Never
		return o
	}
	wait := depth.Wait(tat, now.Ticks, hits)
	o.Admitted, o.RetryAfter = wait == 0, roundUp(wait)
	if o.Admitted && ahead != 0 {
		_, delay, _ := limit.Pace(tat, now.Ticks, depth.Cost(hits), ahead)
		o.Delay = roundUp(delay)
	}
	return o
}

// roundUp is a wait in nanoseconds that is not too short.
func roundUp(t bucket.Ticks) time.Duration {
	const part = 1<<8 - 1
	return (t + part).Duration()
}

// newAlgorithm is what policies can name.
func newAlgorithm(p policy.Policy) (Algorithm, error) {
	switch p.Algorithm {
	case policy.AlgorithmTokenBucket:
		return newTokenBucket(p)
	case policy.AlgorithmLeakyBucket:
		return newLeakyBucket(p)
	case policy.AlgorithmFixedWindow:
		return newFixedWindow(p)
	case policy.AlgorithmSlidingWindow:
		return newSlidingWindow(p)
	case policy.AlgorithmConcurrency:
		return newConcurrency(p)
	}
	return nil, fmt.Errorf("unknown algorithm %q (give it in Options.Algorithms)", p.Algorithm)
}

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

// Take says in Found what the TAT is then.
func (a *tokenBucket) Take(b Bucket, now Instant, hits uint64) (o Outcome) {
	if hits > a.limit.Burst {
		return a.Peek(b, now, hits)
	}
	c := bucket.Charge{Cost: a.limit.Cost(hits), Tokens: uint32(min(hits, math.MaxUint32)), EvictDebt: a.evictDebt}
	flags := b.Table.Charge(b.Hash, &a.limit, now.Ticks, &c)
	for tries := 0; flags&bucket.Contended != 0 && tries < contendedTries; tries++ {
		flags = b.Table.Charge(b.Hash, &a.limit, now.Ticks, &c)
	}
	o.Admitted = flags&bucket.Admitted != 0
	o.Pressure = flags&bucket.Pressure != 0
	o.Remaining = a.limit.Tokens(c.TAT, now.Ticks)
	o.ResetAfter = roundUp(a.debt(c.TAT, now))
	o.Found[0] = c.TAT
	switch {
	case o.Admitted:
	case c.Wait != 0:
		o.RetryAfter = roundUp(c.Wait)
	default: // pressure, or contention: the table knows no time at which that is over
		o.Remaining, o.RetryAfter = 0, time.Second
	}
	return o
}

// Peek says in Found what the TAT is.
func (a *tokenBucket) Peek(b Bucket, now Instant, hits uint64) Outcome {
	e, known := b.Table.Lookup(b.Hash)
	tat := e.TAT
	if !known {
		tat = now.Ticks
	}
	o := Outcome{Remaining: a.limit.Tokens(tat, now.Ticks), ResetAfter: roundUp(a.debt(tat, now)), Found: [2]bucket.Ticks{tat}}
	switch wait := a.limit.Wait(tat, now.Ticks, hits); {
	case hits > a.limit.Burst:
		o.RetryAfter = Never
	case !known && !a.evictDebt && b.Table.Pressed(b.Hash, now.Ticks):
		o.Pressure, o.Remaining, o.RetryAfter = true, 0, time.Second
	default:
		o.Admitted, o.RetryAfter = wait == 0, roundUp(wait)
	}
	return o
}

// debt is what a bucket owes under this limit: it may have been charged under a lower one.
func (a *tokenBucket) debt(tat bucket.Ticks, now Instant) bucket.Ticks {
	return min(bucket.Debt(tat, now.Ticks), a.limit.Depth)
}

func (a *tokenBucket) Refund(b Bucket, _ Instant, _ Outcome, hits uint64) {
	for range contendedTries {
		if b.Table.Refund(b.Hash, &a.limit, hits) {
			return
		}
	}
}

func (a *tokenBucket) Reset(b Bucket, now Instant) { b.Table.Reset(b.Hash, now.Ticks) }

// leakyBucket is a queue that one hit leaves at a time, as the bucket that it is named after leaks: of
// what is admitted, each waits for the delay that the outcome tells, and then at most 1 + rate * t hits go on in
// any interval t. What would be more than burst in the queue is denied. A query of several hits goes on as
// one, when the last of them may: that is as many at once, and the bound is theirs + rate * t.
//
// It is a token bucket whose debt is waited for.
type leakyBucket struct {
	tokenBucket
	first bucket.Ticks // of debt, that need not be waited for
}

// queueing is an [Algorithm] whose places are promises: to give one back when others are behind it would give two
// the same turn. So it is asked after all that may deny.
type queueing interface{ queues() }

func (*leakyBucket) queues() {}

func newLeakyBucket(p policy.Policy) (Algorithm, error) {
	queue, err := bucket.NewLimit(p.Limit, p.Window, p.Burst)
	if err != nil {
		return nil, err
	}
	return &leakyBucket{tokenBucket{queue, p.OnPressure != policy.PressureDrop}, queue.Cost(1)}, nil
}

func (a *leakyBucket) Take(b Bucket, now Instant, hits uint64) Outcome {
	o := a.tokenBucket.Take(b, now, hits)
	if o.Admitted {
		o.Delay = a.delay(a.debt(o.Found[0], now))
	}
	return o
}

// delay is how long the last hit of a debt has to wait.
func (a *leakyBucket) delay(debt bucket.Ticks) time.Duration {
	return roundUp(debt - min(debt, a.first))
}

// Refund gives back a place that is the last. One that others are behind passes by unused: they were told when
// to go on. An outcome that does not say which place it is gives back any.
func (a *leakyBucket) Refund(b Bucket, now Instant, o Outcome, hits uint64) {
	if o.Found[0] == 0 {
		a.tokenBucket.Refund(b, now, o, hits)
		return
	}
	b.Table.RefundLast(b.Hash, &a.limit, hits, o.Found[0])
}

func (a *leakyBucket) Peek(b Bucket, now Instant, hits uint64) Outcome {
	o := a.tokenBucket.Peek(b, now, hits)
	if o.Admitted {
		o.Delay = a.delay(a.debt(o.Found[0], now) + a.limit.Cost(hits))
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

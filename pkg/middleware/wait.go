package middleware

import (
	"context"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// DefaultMaxDelay is the longest that a request waits where the options say nothing.
const DefaultMaxDelay = 10 * time.Second

// Wait waits for the turn of what was allowed with a delay, as a leaky bucket does. If the delay is longer than
// longest, or than ctx will live, it does not wait: it makes res a denial that says to come back after the delay.
// What res holds is released then, and also if ctx ends meanwhile, whose error it returns. The place in the queue
// is lost, and passes by unused.
func Wait(ctx context.Context, c Checker, res *limiter.Result, longest time.Duration) error {
	if !res.Allowed || res.Delay <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); res.Delay > longest || ok && time.Until(deadline) < res.Delay {
		c.Release(res)
		res.Allowed, res.RetryAfter, res.Delay = false, res.Delay, 0
		return nil
	}
	timer := time.NewTimer(res.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		c.Release(res)
		return ctx.Err()
	}
}

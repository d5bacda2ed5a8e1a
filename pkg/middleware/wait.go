package middleware

import (
	"context"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// DefaultMaxDelay is the longest that a request waits where the options say nothing.
const DefaultMaxDelay = 10 * time.Second

// MaxDelay is what to put into a query whose answer is waited for under ctx, and not longer than longest: 0
// means [DefaultMaxDelay], negative none.
func MaxDelay(ctx context.Context, longest time.Duration) time.Duration {
	if longest == 0 {
		longest = DefaultMaxDelay
	}
	if deadline, ok := ctx.Deadline(); ok {
		longest = min(longest, time.Until(deadline))
	}
	if longest <= 0 {
		return -1
	}
	return longest
}

// Wait waits for the turn of what was allowed with a delay, as a leaky bucket does. If ctx ends meanwhile it
// returns the error of that; the place in the queue then passes by unused.
func Wait(ctx context.Context, res *limiter.Result) error {
	if !res.Allowed || res.Delay <= 0 {
		return nil
	}
	timer := time.NewTimer(res.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

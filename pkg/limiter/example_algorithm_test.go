package limiter_test

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// penalty lets as many through as a fixed count allows, and then nothing until the caller has been quiet for a
// window: each denial begins the window anew. It shows what an algorithm is made of.
type penalty struct {
	limit  uint32
	window time.Duration
}

func newPenalty(p policy.Policy) (limiter.Algorithm, error) {
	if p.Limit > 1000 {
		return nil, fmt.Errorf("a limit of %d is no penalty", p.Limit)
	}
	return &penalty{uint32(p.Limit), p.Window}, nil
}

// Take counts in the table, where a count is forgotten when it expires. A denial adds nothing to it, but
// makes it expire later.
func (a *penalty) Take(b limiter.Bucket, now limiter.Instant, hits uint64) limiter.Outcome {
	c := bucket.Counting{
		N: uint32(min(hits, 1<<20)), Most: a.limit, EvictDebt: true,
		Expires: now.Ticks + bucket.AtNanoseconds(uint64(a.window)), Hold: true,
	}
	admitted := b.Table.Count(b.Hash, now.Ticks, &c)&bucket.Admitted != 0
	return a.outcome(c.Count, admitted, a.window)
}

func (a *penalty) Peek(b limiter.Bucket, now limiter.Instant, hits uint64) limiter.Outcome {
	count, left := b.Table.Counted(b.Hash, now.Ticks)
	return a.outcome(count, uint64(count)+hits <= uint64(a.limit), left.Duration())
}

func (a *penalty) outcome(count uint32, admitted bool, left time.Duration) limiter.Outcome {
	o := limiter.Outcome{Admitted: admitted, Remaining: uint64(a.limit - min(count, a.limit)), ResetAfter: left}
	if !admitted {
		o.RetryAfter = left
	}
	return o
}

func (a *penalty) Refund(b limiter.Bucket, _ limiter.Instant, _ limiter.Outcome, hits uint64) {
	for !b.Table.Uncount(b.Hash, uint32(hits), 0, 0) {
	}
}

func (a *penalty) Reset(b limiter.Bucket, now limiter.Instant) {
	count, _ := b.Table.Counted(b.Hash, now.Ticks)
	a.Refund(b, now, limiter.Outcome{}, uint64(count))
}

// How to bring an algorithm of one's own: policies then know it by the name that it was given.
func ExampleAlgorithm() {
	now := limiter.Instant{Ticks: bucket.AtNanoseconds(uint64(time.Hour))}
	l, err := limiter.New(limiter.Options{
		Algorithms: map[policy.Algorithm]limiter.NewAlgorithm{"penalty": newPenalty},
		Clock:      func() limiter.Instant { return now },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	logins := policy.Policy{Name: "logins", Scope: policy.ScopePerUser, Algorithm: "penalty", Limit: 2, Window: time.Minute}
	if err := l.AddPolicy(context.Background(), logins); err != nil {
		fmt.Println(err)
		return
	}
	for _, after := range []time.Duration{0, 10 * time.Second, 10 * time.Second, 50 * time.Second, 59 * time.Second, time.Minute} {
		now.Ticks += bucket.AtNanoseconds(uint64(after))
		r, err := l.CheckRequest(context.Background(), "", &limiter.RequestContext{UserID: "alice"})
		fmt.Printf("%v later: allowed %v, retry after %v %v\n", after, r.Allowed, r.RetryAfter, err)
	}
	logins.Limit = 5000
	fmt.Println(l.UpdatePolicy(context.Background(), logins))
	// Output:
	// 0s later: allowed true, retry after 0s <nil>
	// 10s later: allowed true, retry after 0s <nil>
	// 10s later: allowed false, retry after 1m0s <nil>
	// 50s later: allowed false, retry after 1m0s <nil>
	// 59s later: allowed false, retry after 1m0s <nil>
	// 1m0s later: allowed true, retry after 0s <nil>
	// policies[0].algorithm: algorithm penalty: a limit of 5000 is no penalty; give it what it takes, or choose another
}

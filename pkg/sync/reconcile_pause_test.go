package ratesync

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// oneBucket is a table of one, which is asked for more than it may give.
type oneBucket struct {
	limit bucket.Limit
	tat   bucket.Ticks
	used  uint32
}

func (b *oneBucket) Use(struct{}) (uint32, bucket.Ticks, bool) { return b.used, b.tat, true }

func (b *oneBucket) Adjust(_ struct{}, now bucket.Ticks, delta int64) (applied int64, found bool) {
	b.tat, applied = b.limit.Adjust(b.tat, now, delta)
	return applied, true
}

// drain takes all that there is.
func (b *oneBucket) drain(now bucket.Ticks) (taken uint64) {
	taken = b.limit.Tokens(b.tat, now)
	b.tat = max(b.tat, now) + b.limit.Cost(taken)
	b.used += uint32(taken)
	return taken
}

// TestReconcilerPaused pauses a node for longer than a bucket takes to fill, while its kernel and the other nodes go on. If it
// charged itself then for what was made up for meanwhile, it would let nothing pass for as long as the others use the limit.
func TestReconcilerPaused(t *testing.T) {
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: 2000, Window: time.Second, Burst: 400, Algorithm: policy.AlgorithmTokenBucket,
		Consistency: policy.ConsistencyReconciled, OnStoreFailure: policy.StoreFailureLocal, Layer: policy.LayerKernel}
	rp, err := NewReconciledPolicy(&p)
	if err != nil {
		t.Fatal(err)
	}
	table := &oneBucket{limit: rp.Bucket}
	r, err := NewReconciler(ReconcileConfig{}, table)
	if err != nil {
		t.Fatal(err)
	}
	const interval, pause, others = 100 * time.Millisecond, 6 * time.Second, 200 // of each interval: all of the limit
	now, total := ticksOf(time.Hour), uint64(0)
	r.Announce(now, Source[struct{}]{Policy: rp}, 0)
	round := func(passed time.Duration) (taken uint64) {
		for range passed / interval {
			now += ticksOf(interval)
			taken += table.drain(now)
			total += others
		}
		ops := r.Plan(now, 3)
		replies := make([]Reply, len(ops))
		for i, op := range ops {
			total += op.Hits
			replies[i] = Reply{Total: total, Full: rp.Bucket.Depth.Duration()}
		}
		r.Apply(now, replies)
		return taken
	}
	for range 5 {
		round(interval)
	}
	if round(pause) < 10_000 {
		t.Fatal("its table did not go on")
	}
	round(interval)
	after := uint64(0)
	for range 30 {
		after += round(interval)
	}
	if after == 0 {
		t.Error("it lets nothing pass since")
	}
	t.Logf("%d tokens in 3 s after the pause", after)
}

package ratesync

import (
	"context"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// oneSource is a table of one source: it says what was used, and takes every charge.
type oneSource struct {
	used uint32
	tat  bucket.Ticks
}

func (c *oneSource) Use(int) (uint32, bucket.Ticks, bool) { return c.used, c.tat, true }

func (c *oneSource) Adjust(_ int, _ bucket.Ticks, delta int64) (int64, bool) {
	c.tat = bucket.Ticks(int64(c.tat) + delta)
	return delta, true
}

// reconcile makes a reconciler of a node's table, as a daemon does that has just started.
func reconcile(t *testing.T, table BucketTable[int], seed uint64) *Reconciler[int] {
	t.Helper()
	r, err := NewReconciler(ReconcileConfig{Seed: seed}, table)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReportsAreNotTakenForReplays: a source is tracked, told of, forgotten and tracked again, by the same daemon or one that
// was started anew under the node's name; what it used each time counts.
func TestReportsAreNotTakenForReplays(t *testing.T) {
	const tokens, times = 10, 5
	for name, restart := range map[string]bool{"the same daemon": false, "another one": true} {
		t.Run(name, func(t *testing.T) {
			now := time.Hour
			ticks := func() bucket.Ticks { return bucket.AtNanoseconds(uint64(now)) }
			store := NewModel(func() int64 { return now.Microseconds() })
			p, err := NewReconciledPolicy(&policy.Policy{Name: "p", Algorithm: policy.AlgorithmTokenBucket, Limit: 100,
				Window: time.Second, Burst: 1000, OnStoreFailure: policy.StoreFailureLocal})
			if err != nil {
				t.Fatal(err)
			}
			table := &oneSource{tat: ticks()}
			r := reconcile(t, table, 1)
			source, told := Source[int]{Policy: p, ID: ID{1}}, uint64(0)
			for i := range times {
				if restart {
					r = reconcile(t, table, uint64(i))
				}
				r.Announce(ticks(), source, tokens)
				ops := r.Plan(ticks(), 2)
				for i := range ops {
					told += ops[i].Hits
				}
				replies := make([]Reply, len(ops))
				if err := store.Do(context.Background(), "n", ops, replies); err != nil {
					t.Fatal(err)
				}
				r.Apply(ticks(), replies)
				if got := replies[len(ops)-1].Total; got != told {
					t.Fatalf("the store counts %d tokens after %d were told", got, told)
				}
				r.Replace(func(s Source[int]) (Source[int], bool) { return s, false })
				now += time.Millisecond
			}
			if told < tokens*times {
				t.Fatalf("%d tokens were told of %d", told, tokens*times)
			}
		})
	}
}

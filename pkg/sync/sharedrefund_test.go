package ratesync

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// recorder keeps what a model is asked and says.
type recorder struct {
	*Model
	mu      sync.Mutex
	ops     []Op
	replies []Reply
}

func (r *recorder) Do(ctx context.Context, node string, ops []Op, replies []Reply) error {
	err := r.Model.Do(ctx, node, ops, replies)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops, r.replies = append(r.ops, ops...), append(r.replies, replies[:len(ops)]...)
	return err
}

// grants are those of what was granted and of what came back, each once.
func (r *recorder) grants() (given, back []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ops {
		if r.ops[i].Verb == Return {
			back = append(back, r.ops[i].Grant)
		} else if r.replies[i].Grant != 0 {
			given = append(given, r.replies[i].Grant)
		}
	}
	r.ops, r.replies = nil, nil
	slices.Sort(given)
	slices.Sort(back)
	return slices.Compact(given), slices.Compact(back)
}

// TestRefundsSayOfWhat: what comes back to a window or to a queue says which one or where in it, though another window has begun
// at the store by then.
func TestRefundsSayOfWhat(t *testing.T) {
	for _, c := range []struct {
		algorithm   policy.Algorithm
		consistency policy.Consistency
		turns       bool // each has a place of its own
	}{
		{policy.AlgorithmFixedWindow, policy.ConsistencyStrict, false},
		{policy.AlgorithmSlidingWindow, policy.ConsistencyStrict, false},
		{policy.AlgorithmFixedWindow, policy.ConsistencyLeased, false},
		{policy.AlgorithmSlidingWindow, policy.ConsistencyLeased, false},
		{policy.AlgorithmLeakyBucket, policy.ConsistencyStrict, true},
	} {
		t.Run(string(c.algorithm)+" "+string(c.consistency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := machine{time.Now()}
				store := &recorder{Model: NewModel(func() int64 { return time.Now().UnixMicro() })}
				n := startPeer(t, store, m, 1, nil)
				l := n.share(t, policy.Policy{Name: "w", Scope: policy.ScopePerUser, Limit: 100, Window: time.Second, Burst: 100,
					Algorithm: c.algorithm, Consistency: c.consistency, Layer: policy.LayerL7})
				for window := range 3 {
					time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1500 * time.Millisecond)))
					n.Beat(0, 1)
					var all []limiter.Outcome
					for range 30 {
						o, a := check(n, l, keyOf(1), m.instant(), 1)
						if a != limiter.Decided || !o.Admitted {
							t.Fatalf("%v %+v", a, o)
						}
						all = append(all, o)
					}
					synctest.Wait()
					for _, o := range all {
						o = limiter.Outcome{Admitted: true, Grant: o.Grant, Found: o.Found} // all that a limiter keeps
						l.Refund(keyOf(1), m.instant(), o, 1)
					}
					synctest.Wait()
					given, back := store.grants()
					if c.turns && len(back) != 30 || !c.turns && len(given) != 1 || !slices.Equal(given, back) {
						t.Errorf("window %d: granted %v, came back %v", window, given, back)
					}
				}
				if err := n.stop(); err != nil {
					t.Error(err)
				}
				if _, back := store.grants(); c.consistency == policy.ConsistencyLeased && (len(back) != 1 || back[0] == 0) {
					t.Errorf("unused leases came back to %v", back)
				}
			})
		})
	}
}

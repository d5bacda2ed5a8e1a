package ratesync

import (
	"context"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// frozen is a store whose buckets don't refill: counts are exact.
func frozen() *fakeStore { return newFakeStore(func() time.Duration { return time.Hour }) }

func TestStrictTakesWhatThereIs(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 3, nil)
	l := n.share(t, tokenPolicy(10, time.Second, 10, policy.ConsistencyStrict))
	for i := range 15 {
		o, a := check(n, l, keyOf(1), m.instant(), 1)
		if a != limiter.Decided || o.Admitted != (i < 10) {
			t.Fatalf("hit %d: %v %+v", i, a, o)
		}
		if o.Admitted && o.Remaining != uint64(9-i) || !o.Admitted && o.RetryAfter != 100*time.Millisecond {
			t.Errorf("hit %d: %+v", i, o)
		}
	}
	if got := store.counted(Take); got != 15 {
		t.Errorf("%d takes for 15 decisions", got)
	}
}

func TestLeasedTakesWhatThereIs(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 2, nil)
	l := n.share(t, tokenPolicy(10_000, time.Second, 10_000, policy.ConsistencyLeased))
	admitted := 0
	for range 12_000 {
		o, a := check(n, l, keyOf(1), m.instant(), 1)
		if a != limiter.Decided {
			t.Fatalf("%v %+v", a, o)
		}
		if o.Admitted {
			admitted++
		} else if o.RetryAfter <= 0 {
			t.Fatalf("denied without a wait: %+v", o)
		}
	}
	if admitted != 10_000 {
		t.Errorf("admitted %d of a bucket of 10000", admitted)
	}
	if f := n.Figures(); f.Ops > 12_000*20/1000 {
		t.Errorf("%d operations for 12000 decisions: %+v", f.Ops, f)
	}
}

func TestSmallBurstsActStrict(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 3, nil)
	small := n.share(t, tokenPolicy(20, time.Second, 20, policy.ConsistencyLeased))
	large := n.share(t, tokenPolicy(30, time.Second, 30, policy.ConsistencyLeased))
	if !n.ActsStrict(small) || n.ActsStrict(large) {
		t.Fatalf("strict: small %v, large %v", n.ActsStrict(small), n.ActsStrict(large))
	}
	for i := range 25 {
		o, a := check(n, small, keyOf(1), m.instant(), 1)
		if a != limiter.Decided || o.Admitted != (i < 20) {
			t.Fatalf("hit %d: %v %+v", i, a, o)
		}
	}
	// The store is asked once whether it is drained, and then left alone for as long as it said.
	if takes, leases := store.counted(Take), store.counted(Lease); takes != 21 || leases != 0 {
		t.Errorf("%d takes and %d leases", takes, leases)
	}
}

func TestAllOrNone(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 1, nil)
	leased := n.share(t, tokenPolicy(100, time.Hour, 100, policy.ConsistencyLeased))
	strict := n.share(t, tokenPolicy(100, time.Hour, 100, policy.ConsistencyStrict))
	other := n.share(t, tokenPolicy(2, time.Hour, 2, policy.ConsistencyStrict))
	admitted := 0
	for range 5 {
		all := []limiter.Asking{
			{Shared: leased, Key: keyOf(1), Hits: 1}, {Shared: strict, Key: keyOf(2), Hits: 1}, {Shared: other, Key: keyOf(3), Hits: 1},
			{Shared: strict, Key: keyOf(4), Hits: 1, Peek: true},
		}
		before := n.Figures().Calls
		n.Ask(context.Background(), all)
		if calls := n.Figures().Calls - before; calls > 2 {
			t.Errorf("%d calls for one question", calls)
		}
		ok := true
		for i := range all {
			if all[i].Answer != limiter.Decided {
				t.Fatalf("%+v", all)
			}
			ok = ok && all[i].Outcome.Admitted
		}
		if ok {
			admitted++
		}
	}
	if admitted != 2 {
		t.Errorf("admitted %d, and one of the buckets holds 2", admitted)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[byte]float64{1: 2, 2: 2, 3: 2} {
		if debt := store.debt(keyOf(i)); debt != want {
			t.Errorf("bucket %d was charged %v, not %v", i, debt, want)
		}
	}
}

func TestStopReturnsUnusedLeases(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 1, nil)
	l := n.share(t, tokenPolicy(10_000, time.Second, 10_000, policy.ConsistencyLeased))
	for range 50 {
		check(n, l, keyOf(1), m.instant(), 1)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if used := store.debt(keyOf(1)); used != 50 {
		t.Errorf("the store counts %v of 50", used)
	}
	if _, a := check(n, l, keyOf(2), m.instant(), 1); a != limiter.Away {
		t.Errorf("a stopped sharer answers %v", a)
	}
}

func TestAwayWhileTheGateIsShut(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 1, nil)
	l := n.share(t, tokenPolicy(100, time.Second, 100, policy.ConsistencyLeased))
	n.gate.closed.Store(true)
	for range 30 {
		if _, a := check(n, l, keyOf(1), m.instant(), 1); a != limiter.Away {
			t.Fatal(a)
		}
		l.Spent(keyOf(1), m.instant(), 1)
	}
	if err := n.Recover(context.Background()); err != nil {
		t.Fatal(err)
	}
	if op := store.last(Report); op.Hits < 20 || op.Hits > 30 {
		t.Errorf("reported %+v of 30 spent", op)
	}
	if err := n.Recover(context.Background()); err != nil || store.counted(Report) != 1 {
		t.Errorf("reported %d times: %v", store.counted(Report), err)
	}
	n.gate.closed.Store(false)
	if o, a := check(n, l, keyOf(1), m.instant(), 1); a != limiter.Decided || !o.Admitted {
		t.Errorf("%v %+v", a, o)
	}
}

package ratesync

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

func flightPolicy(limit uint64) policy.Policy {
	return policy.Policy{Name: "c", Scope: policy.ScopePerUser, Limit: limit, Window: time.Hour, Burst: limit,
		Algorithm: policy.AlgorithmConcurrency, Consistency: policy.ConsistencyStrict, Layer: policy.LayerL7}
}

// TestReleasedWhileAway: what ended while the store was away, or by a call without an answer, is in flight no more when it is
// back.
func TestReleasedWhileAway(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		l, k := n.share(t, flightPolicy(5)), keyOf(1)
		first, _ := ask(n, l, k, 1)
		second, a := ask(n, l, k, 1)
		if a != limiter.Decided || !second.Admitted || store.debt(k) != 2 {
			t.Fatal(second, a, store.debt(k))
		}
		store.fail(func(context.Context, []Op, []Reply) error { return errLost }, nil)
		l.Refund(k, m.instant(), first, 1)
		time.Sleep(time.Second)
		n.gate.closed.Store(true)
		l.Refund(k, m.instant(), second, 1)
		time.Sleep(time.Second)
		store.fail(nil, nil)
		n.gate.closed.Store(false)
		ask(n, l, keyOf(2), 1)
		time.Sleep(time.Second)
		if d := store.debt(k); d != 0 {
			t.Errorf("%v are in flight still", d)
		}
	})
}

// TestSpentBetween: what was admitted without the store, of which now and then a call has no answer, it is told soon.
func TestSpentBetween(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		l, k := n.share(t, tokenPolicy(100, time.Hour, 100, policy.ConsistencyStrict)), keyOf(1)
		calls := 0
		store.fail(func(context.Context, []Op, []Reply) error {
			if calls++; calls%2 == 0 {
				return errLost
			}
			return nil
		}, nil)
		admitted := 0
		for range 60 {
			o, a := ask(n, l, k, 1)
			if a == limiter.Away {
				l.Spent(k, m.instant(), 1)
			}
			if a == limiter.Away || o.Admitted {
				admitted++
			}
			time.Sleep(100 * time.Millisecond)
		}
		store.fail(nil, nil)
		time.Sleep(2 * time.Second)
		ask(n, l, keyOf(2), 1)
		if d := store.debt(k); d < float64(admitted)-1 {
			t.Errorf("%d were admitted, and the store knows of %v", admitted, d)
		}
	})
}

// TestManyHitsInFlight: a grant that the store could not count is denied, and costs nothing of other policies.
func TestManyHitsInFlight(t *testing.T) {
	m := machine{time.Now()}
	n := startPeer(t, NewModel(func() int64 { return time.Now().UnixMicro() }), m, 1, nil)
	l, other := n.share(t, flightPolicy(5000)), n.share(t, tokenPolicy(10_000, 24*time.Hour, 10_000, policy.ConsistencyStrict))
	if o, a := l.Take(keyOf(1), m.instant(), maxFlightHits+1); a != limiter.Decided || o.Admitted || o.RetryAfter != limiter.Never {
		t.Errorf("%v %+v", a, o)
	}
	all := []limiter.Asking{{Shared: l, Key: keyOf(1), Hits: maxFlightHits}, {Shared: other, Key: keyOf(2), Hits: maxFlightHits}}
	if n.Ask(context.Background(), all); all[0].Answer != limiter.Decided || !all[0].Outcome.Admitted {
		t.Errorf("%+v", all)
	}
	if o, _ := ask(n, other, keyOf(2), 1); o.Remaining < 10_000-maxFlightHits-1 {
		t.Errorf("taken twice: %+v", o)
	}
}

// TestRefillsOverflow: a lease for which the queue has no room ends once, though somebody else sends it at that moment.
func TestRefillsOverflow(t *testing.T) {
	s, err := NewSharer(SharerOptions{Executor: newFakeStore(nil), Gate: &openGate{}, Clock: machine{time.Now()}.ticks})
	if err != nil {
		t.Fatal(err)
	}
	s.running.Store(true) // for refill, of which no worker runs
	terms, err := s.leases.Terms(Limit{policy.AlgorithmTokenBucket, 100, time.Second, 100})
	if err != nil {
		t.Fatal(err)
	}
	for len(s.refills) < cap(s.refills) {
		s.refills <- nil
	}
	var all sync.WaitGroup
	defer all.Wait()
	for range 2 {
		all.Go(func() {
			for range 300_000 {
				s.refill(terms, keyOf(1))
			}
		})
		all.Go(func() {
			for range 300_000 {
				now := s.skew.now()
				f, queue := s.join(terms, keyOf(1), 1, now+ticksOf(time.Second))
				if !queue {
					continue
				}
				if _, _, ok := s.depart(f, now); ok {
					s.land(f, false, false)
				}
			}
		})
	}
}

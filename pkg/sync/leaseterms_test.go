package ratesync

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestTermsMakeRoom: whoever asks with one limit after the other uses up nothing, and never what is kept for policies.
func TestTermsMakeRoom(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 1, nil)
	own := tokenPolicy(1000, time.Second, 1000, policy.ConsistencyLeased)
	own.Name = limiter.OwnPolicy
	kept := n.share(t, tokenPolicy(999, time.Second, 999, policy.ConsistencyLeased))
	owing := tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyLeased)
	owing.Name = limiter.OwnPolicy
	n.share(t, owing).Spent(keyOf(7), m.instant(), 50) // for three minutes
	strict := 0
	var held []limiter.Shared
	for i := range uint64(3 * maxTerms) {
		own.Limit = 2000 + i
		own.Burst = own.Limit
		l := n.share(t, own)
		if n.ActsStrict(l) {
			strict++
		}
		if i%1000 == 0 {
			if o, a := check(n, l, keyOf(byte(i/1000)), m.instant(), 1); a != limiter.Decided || !o.Admitted {
				t.Fatalf("limit %d: %v %+v", own.Limit, a, o)
			}
			runtime.GC()
		}
		if i%1000 == 1 {
			held = append(held, l)
		}
	}
	if strict != 0 {
		t.Errorf("%d limits that came one after the other have no room", strict)
	}
	if n.leases.terms.last > maxTerms/2 {
		t.Errorf("%d at once for limits of which few were in use", n.leases.terms.last)
	}
	for _, l := range append(held, kept) {
		if n.ActsStrict(l) {
			t.Fatal("a limit in use lost its terms")
		}
		if h := l.(*shared); n.leases.terms.at(h.terms.index) != h.terms {
			t.Fatal("a limit in use shares its index")
		}
	}
	if o, a := check(n, kept, keyOf(200), m.instant(), 1); a != limiter.Decided || !o.Admitted {
		t.Errorf("%v %+v", a, o)
	}
	if err := n.Recover(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := store.last(Report); got.ID != keyOf(7).ID || got.Limit.Limit != 1000 {
		t.Errorf("reported %+v of a limit that owed", got)
	}
	runtime.KeepAlive(held)
}

// TestTermsKeptForPolicies: limits that are all in use leave room for policies.
func TestTermsKeptForPolicies(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, store, m, 1, nil)
	own := tokenPolicy(1, time.Second, 1, policy.ConsistencyLeased)
	own.Name = limiter.OwnPolicy
	held := make([]limiter.Shared, maxTerms)
	strict := 0
	for i := range held {
		own.Limit = 1000 + uint64(i)
		own.Burst = own.Limit
		if held[i] = n.share(t, own); n.ActsStrict(held[i]) {
			strict++
		}
	}
	if strict != termsKept {
		t.Errorf("%d have no room, and %d places are kept", strict, termsKept)
	}
	if n.ActsStrict(n.share(t, tokenPolicy(500, time.Second, 500, policy.ConsistencyLeased))) {
		t.Error("no room for a policy")
	}
	if o, a := check(n, held[len(held)-1], keyOf(1), m.instant(), 1); a != limiter.Decided || !o.Admitted {
		t.Errorf("without room: %v %+v", a, o)
	}
	runtime.KeepAlive(held)
}

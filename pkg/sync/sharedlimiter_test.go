package ratesync

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestLimiters of two nodes share their counts, and their clocks are their own: the sharers learn them from the first
// request.
func TestLimiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &delayed{Executor: NewModel(func() int64 { return time.Now().UnixMicro() }), by: time.Millisecond}
		var limiters []*limiter.Limiter
		var peers []*peer
		for range 2 {
			n := startPeer(t, store, machine{time.Now()}, 2, func(o *SharerOptions) { o.Clock, o.CommandTimeout = nil, 10*time.Millisecond })
			time.Sleep(2500 * time.Millisecond) // clocks differ
			leased := tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyLeased)
			leased.Name, leased.Scope, leased.OnStoreFailure = "leased", policy.ScopeGlobal, policy.StoreFailureClosed
			strict := tokenPolicy(1500, time.Hour, 1500, policy.ConsistencyStrict)
			strict.Name, strict.Scope, strict.OnStoreFailure = "strict", policy.ScopeGlobal, policy.StoreFailureClosed
			l, err := limiter.New(limiter.Options{Store: n, Entries: limiter.MinEntries})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Replace(policy.Document{Policies: []policy.Policy{leased.WithDefaults(), strict.WithDefaults()}}); err != nil {
				t.Fatal(err)
			}
			limiters, peers = append(limiters, l), append(peers, n)
		}
		admitted := 0
		for i := range 1200 {
			for j, l := range limiters {
				if i%100 == 0 {
					peers[j].Beat(0, 2)
				}
				r, err := l.CheckRequest(context.Background(), "k", &limiter.RequestContext{Endpoint: "/"})
				if err != nil {
					t.Fatal(err)
				}
				if r.Allowed {
					admitted++
				} else if r.Policy != "leased" {
					t.Fatalf("%+v", r)
				}
			}
		}
		for _, n := range peers {
			if f := n.Figures(); f.Away > 0 {
				t.Errorf("%+v", f)
			}
			if err := n.stop(); err != nil {
				t.Error(err)
			}
		}
		if admitted < 995 || admitted > 1001 {
			t.Errorf("admitted %d of 1000", admitted)
		}
	})
}

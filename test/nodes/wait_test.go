package nodes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/fallback"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// gate is a node's in this process, as the daemon's.
type gate struct {
	*fallback.Guard
	members *ratesync.Membership
}

func (g *gate) Ready() bool { return g.Guard.Ready() && g.members.Granting() }

// newInProcess makes a limiter that shares its counts through a server, until the test ends.
func newInProcess(t *testing.T, s *redistest.Server, timeout time.Duration, policies ...policy.Policy) *limiter.Limiter {
	t.Helper()
	r, err := ratesync.Open(ratesync.Options{URLs: []string{s.URL}, CommandTimeout: timeout})
	redistest.Must(t, err)
	slow, err := ratesync.NewClient(ratesync.Options{URLs: []string{s.URL}, CommandTimeout: 250 * time.Millisecond, PoolSize: 2})
	redistest.Must(t, err)
	g := &gate{}
	name := ratesync.NewNodeName("test")
	sharer, err := ratesync.NewSharer(ratesync.SharerOptions{Executor: r, Gate: g, Node: name, CommandTimeout: timeout})
	redistest.Must(t, err)
	g.members, err = ratesync.NewMembership(ratesync.MembershipOptions{
		Client: slow, Key: r.Key, Name: name, OnBeat: sharer.Beat, Report: sharer.Recover, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	redistest.Must(t, err)
	g.Guard, err = fallback.New(fallback.Options{
		Probe: g.members.Beat, Recover: sharer.Recover, Interval: time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	redistest.Must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var all errgroup.Group
	for _, run := range []func(context.Context) error{g.Run, g.members.Run, sharer.Run} {
		all.Go(func() error { return run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		_ = all.Wait()
		_ = errors.Join(r.Close(), slow.Close())
	})
	l, err := limiter.New(limiter.Options{Entries: 1 << 16, Store: sharer})
	redistest.Must(t, err)
	redistest.Must(t, l.Replace(policy.Document{Policies: policies}))
	eventually(t, "Redis to be available", func() error {
		if h := l.Health(ctx); !h.RedisAvailable {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	return l
}

// TestNoDecisionWaits freezes Redis under load, and times every decision: none may wait longer than command_timeout and 1 ms, but
// for what this machine's timers are late by themselves, which is measured beside.
func TestNoDecisionWaits(t *testing.T) {
	const timeout = 10 * time.Millisecond
	s := redistest.Start(t, redistest.Options{})
	l := newInProcess(t, s, timeout,
		policy.Policy{Name: "strict", Scope: policy.ScopePerUser, Limit: 1000, Window: time.Second, Layer: policy.LayerL7, Consistency: policy.ConsistencyStrict}.WithDefaults(),
		policy.Policy{Name: "leased", Scope: policy.ScopeGlobal, Limit: 100000, Window: time.Second, Layer: policy.LayerL7, Consistency: policy.ConsistencyLeased}.WithDefaults())
	var slowest, latest atomic.Int64
	var decisions, redis atomic.Uint64
	raise := func(to *atomic.Int64, d time.Duration) {
		for {
			now := to.Load()
			if int64(d) <= now || to.CompareAndSwap(now, int64(d)) {
				return
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		user := &limiter.RequestContext{UserID: fmt.Sprint("user", i)}
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				_, err := l.CheckRequest(context.Background(), "", user)
				raise(&slowest, time.Since(began))
				decisions.Add(1)
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond) // leaves the processors to what is measured
			}
		})
	}
	wg.Go(func() {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		for ctx.Err() == nil {
			began := time.Now()
			timer.Reset(timeout)
			<-timer.C
			raise(&latest, time.Since(began)-timeout)
		}
	})
	time.Sleep(time.Second)
	redis.Store(l.Stats(ctx).RedisRequests)
	slowest.Store(0)
	redistest.Must(t, s.Freeze())
	wg.Wait()
	st := l.Stats(t.Context())
	redistest.Must(t, s.Thaw())
	waited, late := time.Duration(slowest.Load()), time.Duration(latest.Load())
	t.Logf("%d decisions, %d of them without Redis, which was frozen: none took longer than %v; command_timeout %v, and this machine's timers are late by up to %v", decisions.Load(), st.FallbackRequests, waited, timeout, late)
	if waited > timeout+time.Millisecond+late {
		t.Errorf("a decision took %v", waited)
	}
	if st.FallbackRequests == 0 || redis.Load() == 0 {
		t.Errorf("%d decided by Redis before and %d without afterwards", redis.Load(), st.FallbackRequests)
	}
}

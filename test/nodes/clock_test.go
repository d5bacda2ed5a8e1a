package nodes

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/fallback"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// inside is a node in this process, whose wall clock is off: no process can have one of its own.
type inside struct {
	*limiter.Limiter
	guard   *fallback.Guard
	members *ratesync.Membership
	redis   *ratesync.Redis
}

var _ ratesync.Gate = (*inside)(nil)

func (n *inside) Ready() bool             { return n.guard.Ready() && n.members.Granting() }
func (n *inside) Admits(hash uint64) bool { return n.guard.Admits(hash) }
func (n *inside) Do(ctx context.Context, call func(context.Context) error) error {
	return n.guard.Do(ctx, call)
}

// newInside makes one, and runs it until the test ends.
func newInside(t *testing.T, url, name string, off time.Duration, policies []policy.Policy) *inside {
	t.Helper()
	n, log := &inside{}, slog.New(slog.NewTextHandler(io.Discard, nil))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	// The machine may be busy: a timeout is not what this is about.
	n.redis, err = ratesync.Open(ratesync.Options{URLs: []string{url}, KeyPrefix: "test", CommandTimeout: 500 * time.Millisecond})
	must(err)
	sharer, err := ratesync.NewSharer(ratesync.SharerOptions{Executor: n.redis, Gate: n, Node: name, CommandTimeout: 500 * time.Millisecond})
	must(err)
	n.members, err = ratesync.NewMembership(ratesync.MembershipOptions{
		Client: n.redis.Client(), Key: n.redis.Key, Name: name, OnBeat: sharer.Beat, Report: sharer.Recover, Log: log,
	})
	must(err)
	n.guard, err = fallback.New(fallback.Options{Probe: n.members.Beat, Recover: sharer.Recover, Log: log})
	must(err)
	n.Limiter, err = limiter.New(limiter.Options{Store: sharer, Clock: offClock(off), Entries: limiter.MinEntries})
	must(err)
	must(n.Replace(policy.Document{Policies: policies}))
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	for _, run := range []func(context.Context) error{n.guard.Run, sharer.Run, n.members.Run} {
		g.Go(func() error { return run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		if err := n.redis.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// offClock is the machine's, with a wall clock that is off, and ticks of its own.
func offClock(off time.Duration) func() limiter.Instant {
	start := time.Now()
	return func() limiter.Instant {
		since := time.Since(start)
		return limiter.Instant{
			Ticks: bucket.AtNanoseconds(uint64(1<<52 + off + since)), Unix: time.Duration(start.UnixNano()) + since + off,
		}
	}
}

// TestClockOff has the wall clocks of two nodes off by an hour, one each way. What they share goes by the clock of Redis,
// windows too.
func TestClockOff(t *testing.T) {
	t.Parallel()
	const limit, rate, lasts = 200.0, 150.0, 5 * time.Second
	server := redistest.Start(t, redistest.Options{})
	var policies []policy.Policy
	for _, c := range []policy.Consistency{policy.ConsistencyLeased, policy.ConsistencyStrict} {
		for _, a := range []policy.Algorithm{policy.AlgorithmFixedWindow, policy.AlgorithmSlidingWindow, policy.AlgorithmTokenBucket} {
			p := policy.Policy{
				Name: string(a) + "-" + string(c), Scope: policy.ScopePerUser, Match: policy.Match{Endpoints: []string{"/" + string(a) + "-" + string(c)}},
				Limit: limit, Window: time.Second, Burst: limit, Algorithm: a, Consistency: c, OnStoreFailure: policy.StoreFailureClosed,
			}
			policies = append(policies, p.WithDefaults())
		}
	}
	var nodes []*inside
	for i, off := range []time.Duration{-time.Hour - 370*time.Millisecond, 0, time.Hour + 370*time.Millisecond} {
		nodes = append(nodes, newInside(t, "unix://"+server.Socket, fmt.Sprint("n", i, "/00000000"), off, policies))
	}
	eventually(t, "all nodes to be known", func() error {
		for _, n := range nodes {
			if s := n.members.State(); s.Nodes != len(nodes) || s.Beats < 2 || !n.Ready() {
				return fmt.Errorf("%+v", s)
			}
		}
		return nil
	})
	began := time.Now()
	var all sync.WaitGroup
	var decisions atomic.Int64
	for _, p := range policies {
		all.Go(func() {
			admitted, asked := askInside(t, nodes, p.Match.Endpoints[0], rate, lasts, began)
			decisions.Add(int64(asked))
			worst := fullestWindow(admitted, began)
			t.Logf("%-22s %d asked, %d admitted, %.0f allowed; the fullest second of the clock has %d, of %.0f; %.1f beyond the rate",
				p.Name, asked, len(admitted), limit*(lasts.Seconds()+1), worst, limit, excess(admitted, limit))
			switch {
			case p.Algorithm != policy.AlgorithmTokenBucket && worst > limit:
				t.Errorf("%s: %d in one window, of %.0f", p.Name, worst, limit)
			case p.Algorithm == policy.AlgorithmTokenBucket && excess(admitted, limit) > 1.1*limit+0.001:
				t.Errorf("%s: %.1f beyond the rate", p.Name, excess(admitted, limit))
			}
			// A window that slides counts some of the last one as used that is not.
			if float64(len(admitted)) < 0.8*limit*lasts.Seconds() {
				t.Errorf("%s: only %d of %.0f", p.Name, len(admitted), limit*lasts.Seconds())
			}
		})
	}
	all.Wait()
	commands := uint64(0)
	for _, n := range nodes {
		commands += n.redis.Stats().Commands
	}
	t.Logf("Redis: %d operations, %.1f per 1000 decisions of all policies", commands, 1000*float64(commands)/float64(decisions.Load()))
	for _, n := range nodes {
		if s := n.redis.Stats(); s.Errors != (ratesync.RedisStats{}).Errors {
			t.Errorf("errors: %v", s.Errors)
		}
	}
}

// askInside asks all nodes for one user.
func askInside(t *testing.T, nodes []*inside, endpoint string, rate float64, lasts time.Duration, began time.Time) (admitted []admission, asked int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() {
			tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
			defer tick.Stop()
			for time.Since(began) < lasts {
				<-tick.C
				from := time.Since(began)
				r, err := n.CheckRequest(t.Context(), "alice", &limiter.RequestContext{Endpoint: endpoint, UserID: "alice"})
				to := time.Since(began)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				asked++
				if r.Allowed {
					admitted = append(admitted, admission{from, to})
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return admitted, asked
}

// fullestWindow is the most that was admitted, for certain, in one second of the clock: this host's, which is that of Redis.
func fullestWindow(admitted []admission, began time.Time) (most int) {
	windows := map[int64]int{}
	for _, a := range admitted {
		if w := began.Add(a.asked).Unix(); w == began.Add(a.answered).Unix() {
			windows[w]++
			most = max(most, windows[w])
		}
	}
	return most
}

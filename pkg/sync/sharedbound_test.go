package ratesync

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// flow is a bucket beside those that are tested: how full it gets tells whether more was admitted, in any interval t, than
// its burst + rate * t.
type flow struct {
	mu       sync.Mutex
	rate     float64 // a second
	level    float64
	at       time.Duration
	highest  float64
	admitted int
}

func (f *flow) admit(at time.Duration, hits uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.level = max(0, f.level-f.rate*(at-f.at).Seconds()) + float64(hits)
	f.at = at
	f.highest = max(f.highest, f.level)
	f.admitted += int(hits)
}

// delayed is a store far away: half of the time it takes is the way there.
type delayed struct {
	Executor
	by  time.Duration
	ops atomic.Uint64
}

func (d *delayed) Do(ctx context.Context, node string, ops []Op, replies []Reply) error {
	time.Sleep(d.by / 2)
	defer time.Sleep(d.by / 2)
	d.ops.Add(uint64(len(ops)))
	return d.Executor.Do(ctx, node, ops, replies)
}

// offer asks for one hit at a time, so many a second, for some time.
func offer(p *peer, l limiter.Shared, k limiter.Key, m machine, perSecond func(time.Duration) float64, until time.Duration, f *flow, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for m.since() < until {
		if o, a := check(p, l, k, m.instant(), 1); a == limiter.Decided && o.Admitted {
			f.admit(m.since(), 1)
		}
		if rate := perSecond(m.since()); rate > 0 {
			time.Sleep(time.Duration(r.ExpFloat64() / rate * float64(time.Second)))
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// TestBounds: whatever the nodes' load, they admit no more than they may, and at least 90 % of it.
func TestBounds(t *testing.T) {
	even := func(int, time.Duration) float64 { return 1. / 3 }
	skewed := func(node int, _ time.Duration) float64 { return []float64{0.9, 0.05, 0.05}[node] }
	moving := func(node int, at time.Duration) float64 {
		if int(at/(300*time.Millisecond))%3 == node {
			return 1
		}
		return 0
	}
	// After a rest buckets are full, and so are the nodes' leases.
	resting := func(_ int, at time.Duration) float64 {
		if at%(1300*time.Millisecond) > time.Second {
			return 3
		}
		return 0.02
	}
	loads := []struct {
		name   string
		of     func(int, time.Duration) float64
		usable float64
	}{{"even", even, 0.9}, {"skewed", skewed, 0.9}, {"moving", moving, 0.9}, {"resting", resting, 0}}
	counted := func(a policy.Algorithm, limit uint64, window time.Duration, c policy.Consistency) policy.Policy {
		return policy.Policy{Name: "p", Scope: policy.ScopePerUser, Limit: limit, Window: window, Burst: limit, Algorithm: a, Consistency: c, Layer: policy.LayerL7}
	}
	leased, strict := policy.ConsistencyLeased, policy.ConsistencyStrict
	policies := []struct {
		p    policy.Policy
		most float64       // bursts at once
		fast time.Duration // of the store
	}{
		{tokenPolicy(2000, time.Second, 2000, leased), 1.1, 300 * time.Microsecond},
		{tokenPolicy(3000, time.Second, 300, leased), 1.1, 300 * time.Microsecond},
		{tokenPolicy(500, time.Second, 40, leased), 1.1, 2 * time.Millisecond},
		{tokenPolicy(500, time.Second, 10, leased), 1, time.Millisecond},
		{tokenPolicy(1000, time.Second, 100, strict), 1, 2 * time.Millisecond},
		{counted(policy.AlgorithmFixedWindow, 500, time.Second/2, leased), 2, time.Millisecond},
		{counted(policy.AlgorithmFixedWindow, 500, time.Second/2, strict), 2, time.Millisecond},
		{counted(policy.AlgorithmSlidingWindow, 500, time.Second/2, leased), 1.1, time.Millisecond},
		{counted(policy.AlgorithmSlidingWindow, 500, time.Second/2, strict), 1, time.Millisecond},
		{counted(policy.AlgorithmLeakyBucket, 500, time.Second, strict), 1, time.Millisecond},
	}
	for _, pol := range policies {
		for _, load := range loads {
			p := pol.p
			name := fmt.Sprintf("%s %s %d burst %d %s", p.Consistency, p.Algorithm, p.Limit, p.Burst, load.name)
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { bound(t, p, pol.most, pol.fast, load.of, load.usable) })
			})
		}
	}
}

func bound(t *testing.T, p policy.Policy, bursts float64, latency time.Duration, load func(int, time.Duration) float64, least float64) {
	const during, streams, factor = 3 * time.Second, 8, 3
	m := machine{time.Now()}
	store := &delayed{Executor: NewModel(func() int64 { return time.Now().UnixMicro() }), by: latency}
	f := &flow{rate: float64(p.Limit) / p.Window.Seconds()}
	var all sync.WaitGroup
	var peers []*peer
	for i := range 3 {
		n := startPeer(t, store, m, 3, func(o *SharerOptions) { o.Node, o.CommandTimeout = fmt.Sprint("n", i), 50*time.Millisecond })
		peers = append(peers, n)
		l := n.share(t, p)
		all.Go(func() {
			for m.since() < during {
				n.Beat(0, 3)
				time.Sleep(500 * time.Millisecond)
			}
		})
		for s := range streams {
			all.Go(func() {
				offer(n, l, keyOf(1), m, func(at time.Duration) float64 { return factor * f.rate * load(i, at) / streams }, during, f, uint64(i*100+s))
			})
		}
	}
	all.Wait()
	for _, n := range peers {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	}
	allowed := float64(p.Burst) + f.rate*during.Seconds()
	if p.Algorithm == policy.AlgorithmFixedWindow || p.Algorithm == policy.AlgorithmSlidingWindow {
		allowed -= float64(p.Burst) // which is that of the first window
	}
	// What the store granted arrives together with what it granted while that was on its way.
	most := bursts*float64(p.Burst) + f.rate*latency.Seconds() + 1
	if f.highest > most {
		t.Errorf("%.0f above the rate at once, and no more than %.0f may be", f.highest, most)
	}
	if usable := float64(f.admitted) / allowed; usable < least {
		t.Errorf("%.3f of what may pass did: %d of %.0f", usable, f.admitted, allowed)
	}
	t.Logf("admitted %d of %.0f, highest %.0f of %.0f; %d operations", f.admitted, allowed, f.highest, most, store.ops.Load())
}

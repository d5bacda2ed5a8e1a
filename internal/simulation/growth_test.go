package simulation

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

const (
	growthRest  = 3 * time.Second // for heartbeats of who leases, before anybody comes
	growthTimes = 20              // the limit, of demand
	growthUnder = 0.9             // and where nothing should be denied
)

var whole = flag.Bool("whole", false, "TestGrowth: 10 s for 1000 nodes too, and not 3 s")

// grown is what a cluster of a size came to, of one source.
type grown struct {
	admitted, later float64 // in all, and after the first second
	over, bound     float64 // tokens above burst + rate * t: the most in any interval, and what is promised
	ops, decided    int
	under           float64 // the part that was admitted of growthUnder times the limit
}

// spray sends a source evenly to all nodes, at so many times its limit, from a time on.
func spray(l *ratesync.Limit, times float64, from time.Duration, w *network, nodes int) int {
	if w.Now <= from {
		return 0
	}
	return about(times*float64(l.Limit)*float64(Step)/float64(l.Window)/float64(nodes), w.random)
}

func growReconciled(l ratesync.Limit, nodes int, window time.Duration) (g grown) {
	run := func(times float64) (c *Cluster, first float64) {
		c = New(Config{Seed: 1, Nodes: nodes, Delay: time.Millisecond, Limits: []ratesync.Limit{l}})
		arrivals := func(c *Cluster, _, _ int) int { return spray(&l, times, 0, &c.network, nodes) }
		c.Run(time.Second, arrivals)
		first = c.Meters[0].Admitted
		c.Run(window, arrivals)
		return c, first
	}
	c, _ := run(growthUnder)
	g.under = c.Meters[0].Admitted / float64(c.Decided)
	c, first := run(growthTimes)
	g.take(&c.Meters[0], first, c.Bound(0, growthTimes*float64(l.Limit)/l.Window.Seconds()/float64(nodes)), &l)
	g.ops, g.decided = c.Ops, c.Decided
	return g
}

func growLeased(l ratesync.Limit, nodes int, window time.Duration) (g grown) {
	run := func(times float64) (c *LeaseCluster, first float64) {
		c = NewLeaseCluster(LeaseConfig{Seed: 1, Nodes: nodes, Delay: time.Millisecond, Limits: []ratesync.Limit{l}})
		arrivals := func(c *LeaseCluster, _, _ int) int { return spray(&l, times, growthRest, &c.network, nodes) }
		c.Run(growthRest+time.Second, arrivals)
		first = c.Meters[0].Admitted
		c.Run(growthRest+window, arrivals)
		return c, first
	}
	c, _ := run(growthUnder)
	g.under = c.Meters[0].Admitted / float64(c.Decided)
	c, first := run(growthTimes)
	g.take(&c.Meters[0], first, c.Bound(0), &l)
	g.ops, g.decided = c.Ops, c.Decided
	return g
}

func (g *grown) take(m *Meter, first, bound float64, l *ratesync.Limit) {
	g.admitted, g.later = m.Admitted, m.Admitted-first
	g.over, g.bound = max(0, m.Highest()-float64(l.Burst)), bound-float64(l.Burst)
}

const growthHead = `one source, sent evenly to all nodes at %d times its limit; 1000 nodes for %v, fewer for 10s.
over: the most above burst + rate * t in any interval, in tokens; usable: what was admitted of the rate after the first second;
under: what was admitted of %.1f times the limit; operations: those on buckets, without a heartbeat a second and node
| | rate | burst | nodes | admitted / allowed | over | bound | usable | under | operations / 1000 decisions | operations / s |
`

// TestGrowth prints what clusters of every size make of a limit, and holds them to what is promised.
func TestGrowth(t *testing.T) {
	ways := []struct {
		consistency policy.Consistency
		grow        func(ratesync.Limit, int, time.Duration) grown
	}{{policy.ConsistencyLeased, growLeased}, {policy.ConsistencyReconciled, growReconciled}}
	short := 3 * time.Second
	if *whole {
		short = 10 * time.Second
	}
	table := fmt.Sprintf(growthHead, growthTimes, short, growthUnder)
	for _, w := range ways {
		for _, l := range []ratesync.Limit{limit(1000, time.Second, 200), limit(20_000, time.Second, 20_000)} {
			for _, nodes := range []int{2, 10, 100, 1000} {
				window := 10 * time.Second
				if nodes >= 1000 {
					window = short
				}
				g := w.grow(l, nodes, window)
				rate, seconds := float64(l.Limit), window.Seconds()
				table += fmt.Sprintf("| %s | %d/s | %d | %d | %.3f | %.0f | %.0f | %.3f | %.3f | %.2f | %.0f |\n", w.consistency, l.Limit, l.Burst, nodes,
					g.admitted/(float64(l.Burst)+rate*seconds), g.over, g.bound, g.later/(rate*(seconds-1)), g.under,
					1000*float64(g.ops)/float64(g.decided), float64(g.ops)/seconds)
				if g.over > g.bound {
					t.Errorf("%s, %d nodes, burst %d: %.0f tokens above burst + rate * t, and no more than %.0f may be", w.consistency, nodes, l.Burst, g.over, g.bound)
				}
			}
		}
	}
	t.Log(table)
}

func limit(limit uint64, window time.Duration, burst uint64) ratesync.Limit {
	return ratesync.Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: limit, Window: window, Burst: burst}
}

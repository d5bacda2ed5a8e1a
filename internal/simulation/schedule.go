package simulation

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// Schedule is what happens in a run: a cluster, its traffic, and the faults that come over it. A seed draws it.
type Schedule struct {
	Config
	Length  time.Duration
	events  []event
	traffic []stream
}

// event is a fault that begins, or one that ends.
type event struct {
	at   time.Duration
	what string
	do   func(c *Cluster)
}

// stream is one source's traffic.
type stream struct {
	rate   float64 // tokens a second, over all nodes
	kind   streamKind
	period time.Duration
	on     float64 // part of the period with traffic
	rest   float64 // tokens a second in the other part
	shift  time.Duration
	home   int
}

type streamKind uint8

const (
	even   streamKind = iota // to all nodes alike
	skewed                   // 90 % to one
	moving                   // to one node after another
	streamKinds
)

// Draw makes the schedule of a seed.
func Draw(seed uint64, mutation Mutation) *Schedule {
	r := rand.New(rand.NewPCG(seed, 0x7363686564))
	s := &Schedule{Length: 4*time.Second + time.Duration(r.IntN(4000))*Step}
	s.Config = Config{
		Seed: seed, Nodes: 2 + r.IntN(9), Delay: time.Duration(1+r.IntN(4)) * Step, Share: r.IntN(3) == 0, Skew: r.IntN(2) == 0,
		Mutation: mutation,
	}
	if r.IntN(200) == 0 {
		s.Nodes = 100 + r.IntN(200)
	}
	for range 1 + r.IntN(3) {
		limit := uint64(math.Exp2(3 + 8*r.Float64()))
		burst := max(1, uint64(float64(limit)*math.Exp2(-6+7*r.Float64())))
		s.Limits = append(s.Limits, ratesync.Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: limit, Window: time.Second, Burst: burst})
		full := time.Duration(float64(time.Second) * float64(burst) / float64(limit))
		s.traffic = append(s.traffic, stream{
			rate:   float64(limit) * []float64{0.5, 1, 2, 20, 100}[r.IntN(5)],
			kind:   streamKind(r.IntN(int(streamKinds))),
			period: max(Step, []time.Duration{full, 2 * full, time.Second, full * time.Duration(s.Nodes)}[r.IntN(4)]),
			on:     []float64{1, 0.5, 0.1}[r.IntN(3)],
			home:   r.IntN(s.Nodes),
		})
	}
	for range r.IntN(6) {
		s.draw(r)
	}
	s.Faulty = len(s.events) > 0
	return s
}

// draw adds a fault.
func (s *Schedule) draw(r *rand.Rand) {
	at := time.Duration(r.Int64N(int64(s.Length)))
	end := at + 50*Step + time.Duration(r.IntN(2000))*Step
	node := r.IntN(s.Nodes)
	on := func(f func(*Node)) func(*Cluster) { return func(c *Cluster) { f(c.Nodes[node]) } }
	switch r.IntN(9) {
	case 0:
		s.add(at, fmt.Sprintf("node %d is cut off", node), on(func(n *Node) { n.cut = true }))
		s.add(end, fmt.Sprintf("node %d is back", node), on(func(n *Node) { n.cut = false }))
	case 1:
		s.add(at, "half are cut off", func(c *Cluster) { c.cut(len(c.Nodes)/2, true) })
		s.add(end, "they are back", func(c *Cluster) { c.cut(len(c.Nodes)/2, false) })
	case 2:
		s.add(at, "the store dies", func(c *Cluster) { c.faults.storeDown = true })
		wiped := r.IntN(2) == 0
		s.add(end, fmt.Sprintf("the store starts, wiped: %v", wiped), func(c *Cluster) {
			c.faults.storeDown = false
			if wiped {
				c.wipe()
			}
		})
	case 3:
		s.add(at, "the store loses its data", (*Cluster).wipe)
	case 4:
		p := 0.02 + 0.4*r.Float64()
		s.add(at, fmt.Sprintf("%.0f %% of messages are lost", 100*p), func(c *Cluster) { c.faults.lossy = p })
		s.add(end, "none are", func(c *Cluster) { c.faults.lossy = 0 })
	case 5:
		slow := time.Duration(1+r.IntN(200)) * Step
		s.add(at, fmt.Sprintf("slow by %v", slow), func(c *Cluster) { c.faults.slow = slow })
		s.add(end, "fast again", func(c *Cluster) { c.faults.slow = 0 })
	case 6:
		s.add(at, fmt.Sprintf("daemon %d is paused", node), on((*Node).Pause))
		s.add(end, fmt.Sprintf("daemon %d goes on", node), on((*Node).Resume))
	case 7:
		s.add(at, fmt.Sprintf("daemon %d crashes", node), on((*Node).Pause))
		host := r.IntN(2) == 0
		s.add(end, fmt.Sprintf("daemon %d starts, with the host: %v", node, host), func(c *Cluster) {
			if host {
				c.Nodes[node].Wipe()
				c.explain(1)
			}
			c.Nodes[node].Start()
		})
	case 8:
		s.add(at, "a node joins", func(c *Cluster) { c.Join() })
	}
}

func (s *Schedule) add(at time.Duration, what string, do func(*Cluster)) {
	s.events = append(s.events, event{at, what, do})
}

func (c *Cluster) cut(n int, cut bool) {
	for _, node := range c.Nodes[:n] {
		node.cut = cut
	}
}

// wipe loses the store's data: what nodes had told and others had not heard is not known to those, and whoever comes anew hears of
// nothing until the first node tells what it knows.
func (c *Cluster) wipe() {
	c.store.Flush()
	c.explain(float64(len(c.Nodes) - 1))
}

// Run runs the schedule, and says which bound did not hold.
func (s *Schedule) Run() (*Cluster, error) {
	c := New(s.Config)
	done := make([]bool, len(s.events))
	for c.Now < s.Length {
		for i, e := range s.events {
			if !done[i] && e.at <= c.Now {
				done[i] = true
				e.do(c)
			}
		}
		c.Run(c.Now+Step, s.arrivals)
	}
	return c, c.Check()
}

func (s *Schedule) arrivals(c *Cluster, node, source int) int {
	return s.traffic[source].packets(c.Now, node, len(c.Nodes), c.random)
}

// packets is how many come to a node in a step.
func (t *stream) packets(now time.Duration, node, nodes int, r *rand.Rand) int {
	rate := t.rate / t.on
	if phase := (now + t.shift) % t.period; float64(phase) > t.on*float64(t.period) {
		if rate = t.rest; rate == 0 {
			return 0
		}
	}
	share := 1 / float64(nodes)
	switch t.kind {
	case skewed:
		if nodes == 1 {
			break
		}
		share = 0.1 / float64(nodes-1)
		if node == t.home {
			share = 0.9
		}
	case moving:
		if share = 0; node == int(now/t.period)%nodes {
			share = 1
		}
	}
	return about(rate*share*Step.Seconds(), r)
}

// about is a whole number whose mean is this.
func about(mean float64, r *rand.Rand) int {
	whole := int(mean)
	if r.Float64() < mean-float64(whole) {
		whole++
	}
	return whole
}

// String tells what happens.
func (s *Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d nodes, %v, share %v, skew %v, delay %v\n", s.Nodes, s.Length, s.Share, s.Skew, s.Delay)
	for i := range s.Limits {
		fmt.Fprintf(&b, "source %d: %d/s burst %d, traffic %+v\n", i, s.Limits[i].Limit, s.Limits[i].Burst, s.traffic[i])
	}
	for _, e := range s.events {
		fmt.Fprintf(&b, "%8v %s\n", e.at, e.what)
	}
	return b.String()
}

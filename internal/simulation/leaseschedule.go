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

// LeaseSchedule is what happens in a run of a cluster that leases. A seed draws it.
type LeaseSchedule struct {
	LeaseConfig
	Length  time.Duration
	Least   float64       // of burst + rate * t that has to be admitted
	Busy    time.Duration // that t; 0: Length
	events  []leaseEvent
	traffic []stream
}

type leaseEvent struct {
	at   time.Duration
	what string
	do   func(c *LeaseCluster)
}

// DrawLeases makes the schedule of a seed.
func DrawLeases(seed uint64, mutation LeaseMutation) *LeaseSchedule {
	r := rand.New(rand.NewPCG(seed, 0x6c65617365))
	s := &LeaseSchedule{Length: 5*time.Second + time.Duration(r.IntN(4000))*Step}
	s.LeaseConfig = LeaseConfig{
		Seed: seed, Nodes: 2 + r.IntN(9), Delay: time.Duration(1+r.IntN(4)) * Step,
		Share: []float64{0.1, 0.1, 0.3, 1}[r.IntN(4)], Skew: r.IntN(2) == 0, Mutation: mutation,
	}
	if r.IntN(200) == 0 {
		s.Nodes = 100 + r.IntN(200)
	}
	for range 1 + r.IntN(2) {
		s.drawSource(r)
	}
	for range r.IntN(6) {
		s.draw(r)
	}
	return s
}

// drawSource adds a limit of a burst that lasts for 50 ms to 4 s, and its traffic: even, or in pulses.
func (s *LeaseSchedule) drawSource(r *rand.Rand) {
	limit := uint64(math.Exp2(4 + 7*r.Float64()))
	burst := max(1, uint64(float64(limit)*math.Exp2(-4+6*r.Float64())))
	s.Limits = append(s.Limits, ratesync.Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: limit, Window: time.Second, Burst: burst})
	full := time.Duration(float64(time.Second) * float64(burst) / float64(limit))
	s.traffic = append(s.traffic, stream{
		rate:   float64(limit) * []float64{0.5, 1, 2, 20}[r.IntN(4)],
		kind:   streamKind(r.IntN(int(streamKinds))),
		period: max(Step, []time.Duration{full, 2 * full, time.Second, 1300 * time.Millisecond}[r.IntN(4)]),
		on:     []float64{1, 0.5, 0.1}[r.IntN(3)],
		rest:   float64(limit) * []float64{0, 0.05, 0.3}[r.IntN(3)],
		home:   r.IntN(s.Nodes),
	})
}

// draw adds a fault, which is over after 5 s at the most: heartbeats are old after three.
func (s *LeaseSchedule) draw(r *rand.Rand) {
	at := time.Duration(r.Int64N(int64(s.Length)))
	end := at + 50*Step + time.Duration(r.IntN(5000))*Step
	node := r.IntN(s.Nodes)
	on := func(f func(*Leaser)) func(*LeaseCluster) { return func(c *LeaseCluster) { f(c.Nodes[node]) } }
	switch r.IntN(10) {
	case 0:
		s.add(at, fmt.Sprintf("node %d is cut off", node), on(func(n *Leaser) { n.cut = true }))
		s.add(end, fmt.Sprintf("node %d is back", node), on(func(n *Leaser) { n.cut = false }))
	case 1:
		s.add(at, "half are cut off", func(c *LeaseCluster) { c.cut(len(c.Nodes)/2, true) })
		s.add(end, "they are back", func(c *LeaseCluster) { c.cut(len(c.Nodes)/2, false) })
	case 2:
		s.drawOutage(at, end, r.IntN(2) == 0)
	case 3:
		s.add(at, "the store loses its data", (*LeaseCluster).Lose)
	case 4:
		p := 0.02 + 0.4*r.Float64()
		s.add(at, fmt.Sprintf("%.0f %% of messages are lost", 100*p), func(c *LeaseCluster) { c.faults.lossy = p })
		s.add(end, "none are", func(c *LeaseCluster) { c.faults.lossy = 0 })
	case 5:
		slow := time.Duration(1+r.IntN(200)) * Step
		s.add(at, fmt.Sprintf("slow by %v", slow), func(c *LeaseCluster) { c.faults.slow = slow })
		s.add(end, "fast again", func(c *LeaseCluster) { c.faults.slow = 0 })
	case 6:
		s.add(at, fmt.Sprintf("node %d is paused", node), on((*Leaser).Pause))
		s.add(end, fmt.Sprintf("node %d goes on", node), on((*Leaser).Resume))
	case 7:
		s.add(at, fmt.Sprintf("node %d crashes", node), on(func(n *Leaser) { n.dead = true }))
		s.add(end, "it starts, under another name", func(c *LeaseCluster) { c.Join() })
	case 8:
		s.add(at, "a node joins", func(c *LeaseCluster) { c.Join() })
	case 9:
		s.add(at, fmt.Sprintf("node %d leaves", node), on((*Leaser).Leave))
	}
}

func (s *LeaseSchedule) drawOutage(at, end time.Duration, wiped bool) {
	s.add(at, "the store dies", func(c *LeaseCluster) { c.faults.storeDown = true })
	s.add(end, fmt.Sprintf("the store starts, wiped: %v", wiped), func(c *LeaseCluster) {
		c.faults.storeDown = false
		if wiped {
			c.Lose()
		}
	})
}

func (s *LeaseSchedule) add(at time.Duration, what string, do func(*LeaseCluster)) {
	s.events = append(s.events, leaseEvent{at, what, do})
}

func tokens(limit, burst uint64) []ratesync.Limit {
	return []ratesync.Limit{{Algorithm: policy.AlgorithmTokenBucket, Limit: limit, Window: time.Second, Burst: burst}}
}

// DrawSilence has a node be paused or cut off for longer than a heartbeat is good, while it and the others hold all that they may and
// the bucket fills behind them. Then everybody comes.
func DrawSilence(seed uint64, mutation LeaseMutation) *LeaseSchedule {
	r := rand.New(rand.NewPCG(seed, 0x73696c656e6365))
	limit := uint64(20 + r.IntN(80))
	s := &LeaseSchedule{Length: 8 * time.Second, LeaseConfig: LeaseConfig{
		Seed: seed, Nodes: 2 + r.IntN(2), Delay: 2 * Step, Share: 0.5 + 0.5*r.Float64(), Limits: tokens(limit, limit), Mutation: mutation,
	}}
	s.traffic = []stream{{rate: 20 * float64(limit), period: s.Length, shift: s.Length / 10, on: 0.1, rest: 0.1 * float64(limit)}}
	if at := 2500 * time.Millisecond; r.IntN(2) == 0 {
		s.add(at, "node 0 is cut off", func(c *LeaseCluster) { c.Nodes[0].cut = true })
	} else {
		s.add(at, "node 0 is paused", func(c *LeaseCluster) { c.Nodes[0].Pause() })
		s.add(s.Length*9/10, "node 0 goes on", func(c *LeaseCluster) { c.Nodes[0].Resume() })
	}
	return s
}

// DrawLoss has a store whose buckets are drained die, and come back with nothing, while all nodes look for it: none of them
// may grant from it before it knows what they know, and so nothing explains a second burst.
func DrawLoss(seed uint64, mutation LeaseMutation) *LeaseSchedule {
	r := rand.New(rand.NewPCG(seed, 0x6c6f7373))
	limit := uint64(50 + r.IntN(150))
	s := &LeaseSchedule{Length: 9 * time.Second, LeaseConfig: LeaseConfig{
		Seed: seed, Nodes: 2 + r.IntN(9), Delay: time.Duration(1+r.IntN(4)) * Step, Skew: r.IntN(2) == 0,
		Limits: tokens(limit, limit*uint64(4+r.IntN(5))), Mutation: mutation,
	}}
	s.traffic = []stream{{rate: 20 * float64(limit), period: s.Length, on: 1}}
	s.add(3*time.Second, "the store dies", func(c *LeaseCluster) { c.faults.storeDown = true })
	s.add(4500*time.Millisecond+time.Duration(r.IntN(1500))*Step, "it comes back, with nothing", func(c *LeaseCluster) {
		c.faults.storeDown = false
		c.Lose()
		c.lost = 0
	})
	return s
}

// DrawMute loses answers, up to one in seven, and nothing else. What they granted is not lost.
func DrawMute(seed uint64, mutation LeaseMutation) *LeaseSchedule {
	r := rand.New(rand.NewPCG(seed, 0x6d757465))
	limit := uint64(500 + r.IntN(1500))
	s := &LeaseSchedule{Length: 9 * time.Second, Busy: 6 * time.Second, Least: 0.9, LeaseConfig: LeaseConfig{
		Seed: seed, Nodes: 2 + r.IntN(3), Delay: 2 * Step, Limits: tokens(limit, limit), Mutation: mutation,
	}}
	s.traffic = []stream{{rate: 4 * float64(limit), period: s.Length, on: 2. / 3, shift: s.Busy}} // once the nodes know each other
	mute := 0.1 + 0.05*r.Float64()
	s.add(3*time.Second, fmt.Sprintf("%.0f %% of answers are lost", 100*mute), func(c *LeaseCluster) { c.faults.mute = mute })
	return s
}

func (c *LeaseCluster) cut(n int, cut bool) {
	for _, node := range c.Nodes[:n] {
		node.cut = cut
	}
}

// Run runs the schedule, and says which bound did not hold.
func (s *LeaseSchedule) Run() (*LeaseCluster, error) {
	c := NewLeaseCluster(s.LeaseConfig)
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
	if err := c.Check(); err != nil {
		return c, err
	}
	for i := range c.Meters {
		if used := s.used(c, i); used < s.Least {
			return c, fmt.Errorf("seed %d: source %d: %.3f of its limit was admitted, and not %.3f", s.Seed, i, used, s.Least)
		}
	}
	return c, nil
}

// used is the part of a source's limit that was admitted.
func (s *LeaseSchedule) used(c *LeaseCluster, source int) float64 {
	busy := s.Busy
	if busy == 0 {
		busy = s.Length
	}
	return c.Meters[source].Admitted / (float64(c.Limits[source].Burst) + c.rate(source)*busy.Seconds())
}

func (s *LeaseSchedule) arrivals(c *LeaseCluster, node, source int) int {
	return s.traffic[source].packets(c.Now, node, len(c.Nodes), c.random)
}

// String tells what happens.
func (s *LeaseSchedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d nodes, %v, lease share %v, skew %v, delay %v\n", s.Nodes, s.Length, s.Share, s.Skew, s.Delay)
	for i := range s.Limits {
		fmt.Fprintf(&b, "source %d: %d/s burst %d, traffic %+v\n", i, s.Limits[i].Limit, s.Limits[i].Burst, s.traffic[i])
	}
	for _, e := range s.events {
		fmt.Fprintf(&b, "%8v %s\n", e.at, e.what)
	}
	return b.String()
}

package simulation

import (
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// Step is how time passes.
const Step = time.Millisecond

// Config is a cluster without its faults.
type Config struct {
	Seed     uint64
	Nodes    int
	Interval time.Duration
	Timeout  time.Duration // of a call
	Delay    time.Duration // each way, at most; 0 counts as a step
	Limits   []ratesync.Limit
	Share    bool // on_store_failure
	Skew     bool // clocks are wrong by hours, and 200 ppm fast or slow
	Faulty   bool // there will be faults
	Mutation Mutation
}

// Cluster is nodes, a network and a store.
type Cluster struct {
	Config
	network
	Nodes   []*Node
	Meters  []Meter // by source
	Calls   int
	Ops     int
	Decided int
	store   *ratesync.Model
	extra   []float64 // by source: tokens that faults explain
}

// New makes a cluster at rest.
func New(c Config) *Cluster {
	if c.Interval == 0 {
		c.Interval = 100 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Millisecond
	}
	cluster := &Cluster{
		Config:  c,
		network: newNetwork(c.Seed, c.Delay),
		Meters:  make([]Meter, len(c.Limits)),
		extra:   make([]float64, len(c.Limits)),
	}
	cluster.store = newStore(&cluster.Now)
	for range c.Nodes {
		cluster.Join()
	}
	return cluster
}

// Join adds a node.
func (c *Cluster) Join() *Node {
	n := newNode(c, len(c.Nodes))
	c.Nodes = append(c.Nodes, n)
	return n
}

// send makes a node's call.
func (c *Cluster) send(n *Node, ops []ratesync.Op) {
	c.Calls++
	c.Ops += len(ops)
	ops = append([]ratesync.Op(nil), ops...)
	life, round := n.life, n.rounds
	var replies []ratesync.Reply
	c.exchange(&n.cut, c.Timeout, func() {
		replies = execute(c.store, n.name, ops)
		c.Mutation.spoil(ops, replies)
	}, func(answered bool) {
		if n.stopped || n.life != life || n.rounds != round || !n.waiting {
			return
		}
		n.waiting = false
		n.answered(answered, replies)
	})
}

// Run lets time pass. arrivals says how many packets of a source come to a node in a step.
func (c *Cluster) Run(until time.Duration, arrivals func(c *Cluster, node, source int) int) {
	for c.Now < until {
		c.Now += Step
		c.deliver()
		c.notice()
		for s := range c.Meters {
			c.Meters[s].Leak(c.Now, c.leak(s))
		}
		for _, n := range c.Nodes {
			n.turn()
			for s := range c.Limits {
				if k := arrivals(c, n.index, s); k > 0 {
					n.arrive(s, k)
				}
			}
		}
	}
}

// leak is the rate at which the bound grows: the limit's, and again for each node that does not hear of the others. It
// also begins with a full bucket of its own then, and what it admitted is cut to one when it comes back.
func (c *Cluster) leak(source int) float64 {
	l := &c.Limits[source]
	one := float64(l.Limit) / l.Window.Seconds()
	rate := one
	for _, n := range c.Nodes {
		switch {
		case !n.alone:
		case c.Share && !n.stopped && c.Now < n.probe:
			rate += one / float64(n.nodes())
		default:
			rate += one
		}
	}
	if c.Skew {
		rate *= 1.0005
	}
	return rate
}

// explain adds to what the bound of every source allows: so many buckets, and what they gain while nodes hear of it.
func (c *Cluster) explain(buckets float64) {
	for s := range c.Limits {
		l := &c.Limits[s]
		c.extra[s] += buckets * (float64(l.Burst) + float64(l.Limit)*2*c.hearing().Seconds()/l.Window.Seconds())
	}
}

// hearing is how old the last answer to a node is at the most that is not alone.
func (c *Cluster) hearing() time.Duration { return 2*c.Interval + 2*c.Timeout }

// notice finds out who is alone.
func (c *Cluster) notice() {
	for _, n := range c.Nodes {
		alone := n.stopped || c.Now-n.heard > c.hearing()
		if alone && !n.alone {
			c.explain(1)
		}
		n.alone = alone
	}
}

// Bound is by how much more than rate * t a source may have been admitted, faults included, of which arrival
// tokens a second came to a node at the most; 0: nobody knows.
func (c *Cluster) Bound(source int, arrival float64) float64 {
	l := &c.Limits[source]
	b := ratesync.Bounding{Nodes: len(c.Nodes), Interval: c.hearing(), Arrival: arrival}
	if !c.Faulty {
		b.Interval = c.Interval + Step
	}
	return float64(l.Burst) + ratesync.OverAdmission(policy.ConsistencyReconciled, l, b) + c.extra[source]
}

// Check says which bound did not hold.
func (c *Cluster) Check() error {
	for s := range c.Meters {
		if bound := c.Bound(s, 0); c.Meters[s].highest > bound {
			return &Violation{Seed: c.Seed, Source: s, At: c.Meters[s].highestAt, Got: c.Meters[s].highest, Bound: bound}
		}
	}
	return nil
}

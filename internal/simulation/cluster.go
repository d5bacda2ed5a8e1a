package simulation

import (
	"container/heap"
	"math/rand/v2"
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
	Now      time.Duration
	Nodes    []*Node
	Meters   []Meter // by source
	Calls    int
	Ops      int
	Decided  int
	store    *ratesync.Model
	random   *rand.Rand
	calls    mailbox
	sequence int
	faults   faults
	extra    []float64 // by source: tokens that faults explain
}

// faults are the world's state, which a [Schedule] changes.
type faults struct {
	storeDown bool
	lossy     float64 // of requests and of answers
	slow      time.Duration
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
		Config: c,
		Meters: make([]Meter, len(c.Limits)),
		extra:  make([]float64, len(c.Limits)),
		random: rand.New(rand.NewPCG(c.Seed, 0x77656972)),
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

// call is a request under way, then its answer.
type call struct {
	at       time.Duration
	sequence int // for an order that does not depend on the heap
	kind     callKind
	node     *Node
	life     int // the daemon's that made it
	round    int // of that daemon
	ops      []ratesync.Op
	replies  []ratesync.Reply
}

type callKind uint8

const (
	arrives callKind = iota // at the store
	returns                 // to the node
	expires                 // the node waits no longer
)

type mailbox []*call

func (m mailbox) Len() int { return len(m) }
func (m mailbox) Less(i, j int) bool {
	if m[i].at != m[j].at {
		return m[i].at < m[j].at
	}
	return m[i].sequence < m[j].sequence
}
func (m mailbox) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *mailbox) Push(x any)   { *m = append(*m, x.(*call)) }
func (m *mailbox) Pop() any {
	last := len(*m) - 1
	x := (*m)[last]
	*m = (*m)[:last]
	return x
}

func (c *Cluster) post(x *call, after time.Duration) {
	c.sequence++
	x.at, x.sequence = c.Now+max(after, 0), c.sequence
	heap.Push(&c.calls, x)
}

func (c *Cluster) delay() time.Duration {
	return time.Duration(c.random.Int64N(int64(max(1, c.Delay)))) + c.faults.slow
}

func (c *Cluster) lost() bool { return c.faults.lossy > 0 && c.random.Float64() < c.faults.lossy }

// send makes a node's call.
func (c *Cluster) send(n *Node, ops []ratesync.Op) {
	c.Calls++
	c.Ops += len(ops)
	x := call{node: n, life: n.life, round: n.rounds, ops: append([]ratesync.Op(nil), ops...)}
	deadline := x
	deadline.kind = expires
	c.post(&deadline, c.Timeout)
	if !n.cut && !c.lost() {
		c.post(&x, c.delay())
	}
}

func (c *Cluster) deliver(x *call) {
	n := x.node
	switch x.kind {
	case arrives:
		if c.faults.storeDown || n.cut {
			return
		}
		x.replies = execute(c.store, n.name, x.ops)
		c.Mutation.spoil(x.ops, x.replies)
		if !c.lost() {
			x.kind = returns
			c.post(x, c.delay())
		}
	default:
		if n.cut && x.kind == returns || n.stopped || n.life != x.life || n.rounds != x.round || !n.waiting {
			return
		}
		n.waiting = false
		n.answered(x)
	}
}

// Run lets time pass. arrivals says how many packets of a source come to a node in a step.
func (c *Cluster) Run(until time.Duration, arrivals func(c *Cluster, node, source int) int) {
	for c.Now < until {
		c.Now += Step
		for len(c.calls) > 0 && c.calls[0].at <= c.Now {
			c.deliver(heap.Pop(&c.calls).(*call))
		}
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

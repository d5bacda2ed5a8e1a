package simulation

import (
	"container/heap"
	"math/rand/v2"
	"time"

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
	Worst    time.Duration // between two answers to a node that the network was meant to serve
	store    Store
	random   *rand.Rand
	calls    mailbox
	sequence int
	faults   faults
	extra    []float64 // by source: tokens that faults explain
}

// faults are the world's state, which [Schedule] changes.
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
	ledger := NewLedger()
	ledger.Mutation = c.Mutation
	cluster := &Cluster{
		Config: c,
		Meters: make([]Meter, len(c.Limits)),
		extra:  make([]float64, len(c.Limits)),
		random: rand.New(rand.NewPCG(c.Seed, 0x77656972)),
		store:  ledger,
	}
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
		x.replies = make([]ratesync.Reply, len(x.ops))
		c.store.Do(c.Now, n.name, x.ops, x.replies)
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

// leak is the rate at which the bound grows: the limit's, and again for each node that knows nothing of the others.
func (c *Cluster) leak(source int) float64 {
	l := &c.Limits[source]
	rate := float64(l.Limit) / l.Window.Seconds()
	if c.Skew {
		rate *= 1.0002
	}
	for _, n := range c.Nodes {
		if n.alone() {
			if n.lone == 0 {
				n.lone = c.Now
				for s := range c.extra {
					c.extra[s] += float64(c.Limits[s].Burst)
				}
			}
			if c.Share {
				rate += float64(l.Limit) / l.Window.Seconds() / float64(n.nodes())
			} else {
				rate += float64(l.Limit) / l.Window.Seconds()
			}
		} else {
			n.lone = 0
		}
	}
	return rate
}

package simulation

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

const tableSets = 64

// Node is a host: the kernel's table, and a daemon that reconciles it.
type Node struct {
	cluster  *Cluster
	index    int
	name     string
	random   *rand.Rand
	offset   time.Duration // of its clock
	drift    float64
	table    *bucket.Table
	policies []*ratesync.ReconciledPolicy
	used     []uint32 // by source, as the kernel counts

	core    *ratesync.Reconciler[int]
	life    int // of the daemon
	rounds  int
	next    time.Duration
	waiting bool // for an answer
	heard   time.Duration
	fails   int
	probe   time.Duration // when the store may be asked again
	stopped bool          // the daemon: the kernel goes on
	cut     bool          // from the store
	alone   bool          // has not heard of the others lately
}

func newNode(c *Cluster, index int) *Node {
	n := &Node{
		cluster: c, index: index, name: fmt.Sprintf("node-%d", index),
		random: rand.New(rand.NewPCG(c.Seed, uint64(index)+1)),
		used:   make([]uint32, len(c.Limits)),
	}
	if c.Skew {
		n.offset = time.Duration(n.random.Int64N(int64(3 * time.Hour)))
		n.drift = (n.random.Float64()*2 - 1) * 200e-6
	}
	for i := range c.Limits {
		p := policy.Policy{Name: fmt.Sprint("p", i), Algorithm: policy.AlgorithmTokenBucket, OnStoreFailure: policy.StoreFailureLocal,
			Limit: c.Limits[i].Limit, Window: c.Limits[i].Window, Burst: c.Limits[i].Burst}
		if c.Share {
			p.OnStoreFailure = policy.StoreFailureShare
		}
		r, err := ratesync.NewReconciledPolicy(&p)
		if err != nil {
			panic(err) // a simulation of what cannot be configured
		}
		n.policies = append(n.policies, r)
	}
	n.Wipe()
	n.Start()
	return n
}

// Wipe empties the kernel's table: the host has restarted.
func (n *Node) Wipe() {
	var err error
	if n.table, err = bucket.NewTable(make([]byte, tableSets*bucket.SetSize)); err != nil {
		panic(err)
	}
}

// Start starts the daemon, which knows nothing.
func (n *Node) Start() {
	core, err := ratesync.NewReconciler(ratesync.ReconcileConfig{
		Interval: n.cluster.Interval, Sources: 256, Seed: n.random.Uint64(),
	}, table{n})
	if err != nil {
		panic(err)
	}
	n.alone = false
	n.core, n.stopped, n.waiting, n.fails, n.probe = core, false, false, 0, 0
	n.life++
	n.next = n.cluster.Now + time.Duration(n.random.Int64N(int64(n.cluster.Interval)))
	n.heard = n.cluster.Now
}

// Pause keeps the daemon from running, and Resume lets it go on as if nothing had been.
func (n *Node) Pause() { n.stopped = true }

// Resume ends a pause.
func (n *Node) Resume() { n.stopped = false }

// clock is the node's.
func (n *Node) clock() bucket.Ticks {
	now := n.cluster.Now + n.offset
	return bucket.AtNanoseconds(uint64(now + time.Duration(float64(n.cluster.Now)*n.drift)))
}

// nodes is how many it believes there are.
func (n *Node) nodes() int { return len(n.cluster.Nodes) }

func (n *Node) turn() {
	if n.stopped || n.cluster.Now < n.next {
		return
	}
	n.next += n.cluster.Interval
	if n.next < n.cluster.Now { // it was stopped
		n.next = n.cluster.Now + n.cluster.Interval
	}
	n.rounds++
	if n.cluster.Now < n.probe {
		n.core.Away(n.clock(), n.nodes())
		return
	}
	ops := n.core.Plan(n.clock(), n.nodes())
	if n.cluster.Mutation == Recount && n.rounds%2 == 0 {
		for i := range ops {
			ops[i].Hits = 0
		}
	}
	if len(ops) == 0 {
		n.core.Apply(n.clock(), nil)
		n.heard = n.cluster.Now
		return
	}
	n.waiting = true
	n.cluster.send(n, ops)
}

// answered ends a round, with a breaker that opens after five failures and asks again after half a second.
func (n *Node) answered(answered bool, replies []ratesync.Reply) {
	if !answered {
		n.core.Fail()
		if n.fails++; n.fails >= 5 {
			n.probe = n.cluster.Now + 500*time.Millisecond
		}
		return
	}
	n.fails = 0
	n.heard = n.cluster.Now
	n.core.Apply(n.clock(), replies)
}

func hashOf(source int) uint64 { return uint64(source+1) * 0x9e3779b97f4a7c15 }

// arrive decides packets of one token, of which the first that is denied tells about the others.
func (n *Node) arrive(source, packets int) {
	c, p := n.cluster, n.policies[source]
	now := n.clock()
	c.Decided += packets
	admitted := 0
	for range packets {
		if n.table.Take(hashOf(source), &p.Bucket, now, 1, true)&bucket.Admitted == 0 {
			break
		}
		admitted++
	}
	if admitted == 0 {
		return
	}
	c.Meters[source].Admit(float64(admitted))
	n.announce(source, uint32(admitted))
}

// announce does what the kernel does: it tells of a source that passes a multiple of 2^shift.
func (n *Node) announce(source int, admitted uint32) {
	p := n.policies[source]
	shift := p.Bucket.ShareShift(n.cluster.Interval, n.nodes())
	was := n.used[source]
	n.used[source] += admitted
	if (was^n.used[source])>>shift == 0 || n.stopped {
		return
	}
	s := ratesync.Source[int]{Policy: p, At: source}
	binary.BigEndian.PutUint64(s.ID[:], uint64(source))
	n.core.Announce(n.clock(), s, 1<<shift)
}

// table is a node's, as its daemon sees it.
type table struct{ n *Node }

func (t table) Use(source int) (uint32, bucket.Ticks, bool) {
	e, found := t.n.table.Lookup(hashOf(source))
	return e.Used, e.TAT, found
}

func (t table) Adjust(source int, now bucket.Ticks, delta int64) (int64, bool) {
	if t.n.cluster.Mutation == Unmerged {
		return 0, true
	}
	return t.n.table.Adjust(hashOf(source), &t.n.policies[source].Bucket, now, delta)
}

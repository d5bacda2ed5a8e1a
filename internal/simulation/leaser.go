package simulation

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

const (
	beatTimeout   = 250 * time.Millisecond
	reportTimeout = 100 * time.Millisecond
	breakAfter    = 5 // failed calls in a row
	openFor       = time.Second
	firstProbe    = 50 * time.Millisecond
	lastProbe     = 500 * time.Millisecond
	goodProbes    = 3
	mostWaiting   = 64 // for one lease
	leaseRounds   = 3  // as often a lease is asked for before hits are taken without one
)

// Leaser is a node that leases. Its leases and its view of the epoch are the daemon's; what it does with them is Sharer, Membership
// and the guard of package fallback without their goroutines.
type Leaser struct {
	cluster *LeaseCluster
	name    string
	random  *rand.Rand
	offset  time.Duration // of its clock
	drift   float64
	leases  *ratesync.Leases
	terms   []*ratesync.Terms
	keys    []limiter.Key
	flights []*flight // by source

	epoch      ratesync.Epoch
	told       string // the epoch in which it told what it knew
	seen       string
	nextBeat   time.Duration
	good       bucket.Ticks // until when the last heartbeat is, as leases count
	fails      int
	away       bool // the breaker is open
	opened     time.Duration
	probe      time.Duration // when the next one is due
	probePause time.Duration
	probes     int // answered in a row

	paused bool
	held   []func() // what came in a pause
	dead   bool
	cut    bool // from the store
}

// flight is a lease on its way, and those who wait for it.
type flight struct{ waiting, rounds int }

func newLeaser(c *LeaseCluster, index int) *Leaser {
	n := &Leaser{cluster: c, name: fmt.Sprintf("node-%d", index), random: rand.New(rand.NewPCG(c.Seed, uint64(index)+1))}
	if c.Skew {
		n.offset = time.Duration(n.random.Int64N(int64(3 * time.Hour)))
		n.drift = (n.random.Float64()*2 - 1) * 200e-6
	}
	n.leases = ratesync.NewLeases(ratesync.LeaseOptions{Entries: 4 * len(c.Limits), Share: c.Share, Seq: n.random.Uint32()})
	for s := range c.Limits {
		t, err := n.leases.Terms(c.Limits[s])
		if err != nil {
			panic(err) // a simulation of what cannot be configured
		}
		k := limiter.Key{Hash: hashOf(s)}
		binary.BigEndian.PutUint64(k.ID[:], uint64(s))
		n.terms, n.keys = append(n.terms, t), append(n.keys, k)
	}
	n.flights = make([]*flight, len(c.Limits))
	n.nextBeat = c.Now + time.Duration(n.random.Int64N(int64(20*Step)))
	return n
}

func (n *Leaser) elapsed() time.Duration {
	return n.cluster.Now + time.Duration(float64(n.cluster.Now)*n.drift)
}

// clock is the node's.
func (n *Leaser) clock() bucket.Ticks { return bucket.AtNanoseconds(uint64(n.offset + n.elapsed())) }

func (n *Leaser) instant() time.Time { return time.Unix(0, 0).Add(n.elapsed()) }

// Pause keeps the node from running, and Resume lets it go on with what came meanwhile.
func (n *Leaser) Pause() { n.paused = true }

// Resume ends a pause.
func (n *Leaser) Resume() {
	n.paused = false
	held := n.held
	n.held = nil
	for _, do := range held {
		n.when(do)
	}
}

// Leave ends the node in order: what it holds goes back to the store.
func (n *Leaser) Leave() {
	if n.dead || n.paused {
		return
	}
	n.leases.Unused(n.clock(), func(op ratesync.Op) bool {
		n.send([]ratesync.Op{op}, n.cluster.Timeout, func(bool, []ratesync.Reply) {})
		return true
	})
	n.dead = true
}

// when does what comes to the node, once it runs.
func (n *Leaser) when(do func()) {
	switch {
	case n.dead:
	case n.paused:
		n.held = append(n.held, do)
	default:
		do()
	}
}

// send makes a call, and end learns of its end when the node runs.
func (n *Leaser) send(ops []ratesync.Op, timeout time.Duration, end func(answered bool, replies []ratesync.Reply)) {
	c := n.cluster
	c.Ops += len(ops)
	var replies []ratesync.Reply
	c.exchange(&n.cut, timeout, func() { replies = execute(c.store, n.name, ops) }, func(answered bool) {
		n.when(func() { end(answered, replies) })
	})
}

// turn does what is due by the clock.
func (n *Leaser) turn() {
	c := n.cluster
	if c.Mutation == Undead {
		n.pretend()
	}
	if c.Now >= n.nextBeat {
		n.nextBeat = c.Now + time.Hour // until this one has ended
		n.beat(func(bool) {
			n.nextBeat = n.cluster.Now + ratesync.BeatEvery*95/100 + time.Duration(n.random.Int64N(int64(ratesync.BeatEvery/10)))
		})
	}
	if n.away && c.Now >= n.probe {
		n.probe = c.Now + time.Hour
		n.beat(n.probed)
	}
}

// beat sends a heartbeat.
func (n *Leaser) beat(end func(answered bool)) {
	c, sent := n.cluster, n.clock()
	c.Beats++
	var b beat
	c.exchange(&n.cut, beatTimeout, func() { b = c.members.beat(n.name, c.Now) }, func(answered bool) {
		n.when(func() {
			if answered {
				n.heard(b, sent)
			}
			end(answered)
		})
	})
}

func (n *Leaser) heard(b beat, sent bucket.Ticks) {
	n.epoch.Saw(b.epoch, b.age, n.instant())
	n.seen = b.epoch
	if n.cluster.Mutation == Undivided {
		b.nodes = 1
	}
	n.leases.SetNodes(b.nodes)
	n.leases.SetBeat(sent)
	n.good = sent + bucket.AtNanoseconds(uint64(ratesync.LeaseLife))
	if n.told != n.seen {
		n.report(true, func(bool) {})
	}
}

// pretend has heartbeats taken that were not sent, each before the last one is too old.
func (n *Leaser) pretend() {
	for n.good != 0 && bucket.Debt(n.good, n.clock()) <= bucket.AtNanoseconds(uint64(Step)) {
		n.leases.SetBeat(n.good - 1)
		n.good += bucket.AtNanoseconds(uint64(ratesync.LeaseLife)) - 1
	}
}

// report tells the store what this node owes, and if it lost its data what this node knows of its buckets.
func (n *Leaser) report(lost bool, end func(done bool)) {
	epoch := n.seen
	done := func() {
		n.told = epoch
		n.epoch.Report(epoch)
		end(true)
	}
	var owed []ratesync.Debt
	var ops []ratesync.Op
	if n.cluster.Mutation != Forgetful {
		n.leases.Owed(n.clock(), lost, func(d ratesync.Debt) bool {
			owed, ops = append(owed, d), append(ops, d.Op)
			return true
		})
	}
	if len(ops) == 0 {
		done()
		return
	}
	n.send(ops, reportTimeout, func(answered bool, _ []ratesync.Reply) {
		if answered {
			done()
			return
		}
		for _, d := range owed {
			n.leases.Owe(d, n.clock())
		}
		end(false) // the next heartbeat has it told again
	})
}

// called counts calls that failed, and opens the breaker.
func (n *Leaser) called(answered bool) {
	if answered {
		n.fails = 0
		return
	}
	if n.fails++; n.fails >= breakAfter && !n.away {
		n.away, n.opened, n.probes, n.probePause = true, n.cluster.Now, 0, firstProbe
		n.probe = n.cluster.Now + firstProbe
	}
}

// probed takes a probe's answer; after three, once the breaker was open for long enough, debts are reported and it closes.
func (n *Leaser) probed(answered bool) {
	now := n.cluster.Now
	switch {
	case !answered:
		n.probes, n.probe = 0, now+n.probePause
		n.probePause = min(2*n.probePause, lastProbe)
	case now-n.opened < openFor:
		n.probe = n.opened + openFor
	default:
		if n.probes++; n.probes < goodProbes {
			n.probe = now
			return
		}
		n.report(false, func(done bool) {
			n.away, n.fails = !done, 0
			n.probes, n.probe = 0, n.cluster.Now+firstProbe
		})
	}
}

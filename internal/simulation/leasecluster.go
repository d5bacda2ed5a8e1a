package simulation

import (
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// LeaseConfig is a cluster that leases, without its faults.
type LeaseConfig struct {
	Seed     uint64
	Nodes    int
	Timeout  time.Duration // of a call
	Delay    time.Duration // each way, at most; 0 counts as a step
	Limits   []ratesync.Limit
	Share    float64 // 0: ratesync.DefaultLeaseShare
	Skew     bool    // clocks are wrong by hours, and 200 ppm fast or slow
	Mutation LeaseMutation
}

// LeaseMutation is a fault of the code of leases.
type LeaseMutation uint8

const (
	SoundLeases LeaseMutation = iota
	Undivided                 // each node holds what all may
	Undead                    // a node spends what it holds though nobody has heard of it for long
	Hopeful                   // a lease that was not answered is held to be granted
	Numberless                // a lease that was not answered is asked for, and paid, again
	Forgetful                 // nodes do not report what they know when the store lost its data
)

// LeaseCluster is nodes that lease, a network and a store. While the store is away they deny: on_store_failure closed.
type LeaseCluster struct {
	LeaseConfig
	network
	Nodes   []*Leaser
	Meters  []Meter // by source
	Ops     int     // on buckets
	Beats   int
	Decided int
	store   *ratesync.Model
	members members
	lost    float64 // how many bursts losses of data explain
}

// NewLeaseCluster makes a cluster whose nodes start together.
func NewLeaseCluster(c LeaseConfig) *LeaseCluster {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Millisecond
	}
	if c.Share == 0 {
		c.Share = ratesync.DefaultLeaseShare
	}
	cluster := &LeaseCluster{
		LeaseConfig: c,
		network:     newNetwork(c.Seed, c.Delay),
		Meters:      make([]Meter, len(c.Limits)),
	}
	cluster.store = newStore(&cluster.Now)
	cluster.members.wipe()
	for range c.Nodes {
		cluster.Join()
	}
	return cluster
}

// Join adds a node, that a crash takes away for good: who starts again has another name.
func (c *LeaseCluster) Join() *Leaser {
	n := newLeaser(c, len(c.Nodes))
	c.Nodes = append(c.Nodes, n)
	return n
}

// Lose has the store lose its data: until the nodes have told what they know, a bucket is full again, once.
func (c *LeaseCluster) Lose() {
	c.store.Flush()
	c.members.wipe()
	c.lost++
}

// Run lets time pass. arrivals says how many requests for a source come to a node in a step.
func (c *LeaseCluster) Run(until time.Duration, arrivals func(c *LeaseCluster, node, source int) int) {
	for c.Now < until {
		c.Now += Step
		c.deliver()
		for s := range c.Meters {
			c.Meters[s].Leak(c.Now, c.rate(s))
		}
		for i, n := range c.Nodes {
			if n.dead || n.paused {
				continue
			}
			n.turn()
			for s := range c.Limits {
				for range arrivals(c, i, s) {
					n.decide(s)
				}
			}
		}
	}
}

func (c *LeaseCluster) rate(source int) float64 {
	return float64(c.Limits[source].Limit) / c.Limits[source].Window.Seconds()
}

// Bound is by how much more than rate * t a source may have been admitted: a burst and what nodes may hold, what flows in
// while an answer is on its way, a token, and a burst for each time that the store lost its data.
func (c *LeaseCluster) Bound(source int) float64 {
	l := &c.Limits[source]
	burst := float64(l.Burst)
	over := ratesync.OverAdmission(policy.ConsistencyLeased, l, ratesync.Bounding{Nodes: len(c.Nodes), LeaseShare: c.Share})
	return burst + over + c.rate(source)*(c.Timeout+Step).Seconds() + 1 + c.lost*burst
}

// Check says which bound did not hold.
func (c *LeaseCluster) Check() error {
	for s := range c.Meters {
		if m, bound := &c.Meters[s], c.Bound(s); m.highest > bound {
			return &Violation{Seed: c.Seed, Source: s, At: m.highestAt, Got: m.highest, Bound: bound}
		}
	}
	return nil
}

// members is what heartbeat.lua keeps, in milliseconds.
type members struct {
	at     map[string]int64
	epoch  int // 0: none
	began  int64
	epochs int
}

// beat is what a heartbeat is answered.
type beat struct {
	nodes int
	epoch string
	age   time.Duration
}

func (m *members) wipe() { m.at, m.epoch = map[string]int64{}, 0 }

func (m *members) beat(name string, at time.Duration) beat {
	now := at.Milliseconds()
	for other, last := range m.at {
		if last < now-ratesync.BeatLife.Milliseconds() {
			delete(m.at, other)
		}
	}
	m.at[name] = now
	if m.epoch == 0 {
		m.epochs++
		m.epoch, m.began = m.epochs, now
	}
	return beat{len(m.at), fmt.Sprintf("%016x", m.epoch), time.Duration(now-m.began) * time.Millisecond}
}

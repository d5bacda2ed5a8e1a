package ratesync

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed scripts/heartbeat.lua
var heartbeatScript string

// BeatEvery is how often a node tells that it is alive, a tenth of it left to chance, and BeatLife after what silence the
// others count it as dead.
const (
	BeatEvery = 500 * time.Millisecond
	BeatLife  = 3 * time.Second
)

const (
	fewNodes  = 64               // up to which every heartbeat lists them
	listEvery = 10 * time.Second // else
	minTTL    = time.Minute      // of the epoch
)

// MembershipOptions are what a [Membership] needs. What is zero gets the value that its comment names.
type MembershipOptions struct {
	// Client is required.
	Client redis.Scripter
	// Key names the keys of the nodes and the epoch, "nodes" and "epoch", which in a Redis Cluster have to be on one shard:
	// that of [Redis]. Required.
	Key func(name string) string
	// Name is this node's: [NewNodeName]. Required.
	Name    string
	TTL     time.Duration // of the epoch, while no node keeps it alive: 1h, at least 1m
	Timeout time.Duration // of one heartbeat: 250ms
	// OnBeat is told after each heartbeat that was answered how long ago it was sent, and how many nodes there are; it must
	// not wait: that of [Sharer.Beat].
	OnBeat func(ago time.Duration, nodes int)
	// OnMiss hears of each heartbeat of Run that was not answered; it must not wait. nil: nobody does.
	OnMiss func()
	// Report tells the store what this node owes it, after the epoch changed and before it grants again: nil: nothing. It is
	// called again after an error.
	Report func(ctx context.Context) error
	Log    *slog.Logger // nil: [slog.Default]
}

// Membership tells the other nodes that this one is alive, and knows how many there are and since when the store has its
// data. Its methods may be called by several goroutines at once.
type Membership struct {
	o          MembershipOptions
	script     *redis.Script
	nodesKey   string
	epochKey   string
	born       time.Time
	turn       chan struct{} // of one heartbeat at a time
	unreported chan struct{} // wakes Run: the epoch is new
	nodes      atomic.Int64
	lastBeat   atomic.Int64 // when it was sent, in ns since born; math.MinInt64: none was answered
	grantFrom  atomic.Int64 // in ns since born; 0: it has begun; math.MaxInt64: not known
	failures   atomic.Uint64

	mu sync.Mutex
	s  standing
}

// MembershipState says how a node stands with the others.
type MembershipState struct {
	Name    string
	Nodes   int       // at least 1
	Members []Member  // by name, as of Listed; the caller may not change them
	Garbage int       // that is among the nodes and is none, as of Listed
	Listed  time.Time // every heartbeat while there are few, else every ten seconds
	// LastBeat is when the last heartbeat was sent that was answered; zero: none was.
	LastBeat time.Time
	Beats    uint64 // that were answered
	Failures uint64 // that were not
	// Epoch is "" until it is known; Granting tells whether this node grants from the store.
	Epoch    string
	Granting bool
	Epochs   uint64 // that were seen, the first one too: each more is a loss of data
	Made     uint64 // of them by this node
	// Skew is how far the store's clock is ahead of this node's.
	Skew time.Duration
}

// NewMembership makes a membership, and asks nothing of the store yet.
func NewMembership(o MembershipOptions) (*Membership, error) {
	if o.Client == nil || o.Key == nil || !isNodeName(o.Name) {
		return nil, fmt.Errorf("a membership needs a client, keys and a name, which is %q (see NewNodeName)", o.Name)
	}
	if o.TTL == 0 {
		o.TTL = time.Hour
	}
	o.TTL = max(o.TTL, minTTL)
	if o.Timeout <= 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	m := &Membership{
		o: o, script: redis.NewScript(heartbeatScript), nodesKey: o.Key("nodes"), epochKey: o.Key("epoch"),
		born: time.Now(), turn: make(chan struct{}, 1), unreported: make(chan struct{}, 1),
	}
	m.nodes.Store(1)
	m.lastBeat.Store(math.MinInt64)
	m.grantFrom.Store(math.MaxInt64)
	return m, nil
}

// Nodes is how many nodes there are, this one too, as of the last heartbeat: at least 1, at most 4096.
func (m *Membership) Nodes() int { return int(m.nodes.Load()) }

// LastBeat is when the last heartbeat was sent that was answered; zero: none was.
func (m *Membership) LastBeat() time.Time {
	at := m.lastBeat.Load()
	if at == math.MinInt64 {
		return time.Time{}
	}
	return m.born.Add(time.Duration(at))
}

// Granting tells whether this node may grant from the store: what it owes is reported since the store has its data, and so,
// in all likelihood, is what the others owe. One atomic load, but for a moment after a loss.
func (m *Membership) Granting() bool {
	from := m.grantFrom.Load()
	if from == 0 || from == math.MaxInt64 {
		return from == 0
	}
	if int64(time.Since(m.born)) < from {
		return false
	}
	m.grantFrom.CompareAndSwap(from, 0)
	return true
}

// State says how this node stands with the others.
func (m *Membership) State() MembershipState {
	granting := m.Granting()
	m.mu.Lock()
	defer m.mu.Unlock()
	return MembershipState{
		Name: m.o.Name, Nodes: m.Nodes(), Members: m.s.members, Garbage: m.s.garbage, Listed: m.s.listedAt,
		LastBeat: m.LastBeat(), Beats: m.s.beats, Failures: m.failures.Load(), Epoch: m.s.epoch.id, Granting: granting,
		Epochs: m.s.epochs, Made: m.s.made, Skew: m.s.skew,
	}
}

// Beat sends a heartbeat now. It writes, so that it may serve as a probe of the store.
func (m *Membership) Beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	sent := time.Now()
	m.mu.Lock()
	list := 0
	if m.s.list(sent) {
		list = 1
	}
	m.mu.Unlock()
	answer, err := m.script.Run(ctx, m.o.Client, []string{m.nodesKey, m.epochKey}, m.o.Name, BeatLife.Milliseconds(),
		(4 * BeatLife).Milliseconds(), randomHex(epochDigits), m.o.TTL.Milliseconds(), maxNodes, list).Slice()
	var r beatReply
	if err == nil {
		r, err = readBeat(answer)
	}
	if err != nil {
		m.failures.Add(1)
		return fmt.Errorf("a heartbeat: %w", err)
	}
	m.take(r, sent, time.Now())
	return nil
}

// take takes up an answer.
func (m *Membership) take(r beatReply, sent, now time.Time) {
	m.mu.Lock()
	was := m.s.epoch.id
	m.s.apply(r, sent, now)
	m.publish()
	nodes, unreported := m.s.nodes, !m.s.epoch.reported
	m.mu.Unlock()
	m.nodes.Store(int64(nodes))
	m.lastBeat.Store(int64(sent.Sub(m.born)))
	if was != "" && was != r.epoch {
		m.o.Log.Warn("the store has lost its data: nodes report what they hold before they grant again", "nodes", nodes)
	}
	if m.o.OnBeat != nil {
		m.o.OnBeat(max(0, now.Sub(sent)), nodes)
	}
	if unreported {
		select {
		case m.unreported <- struct{}{}:
		default:
		}
	}
}

// publish tells Granting what the epoch says; mu is held.
func (m *Membership) publish() {
	switch e := &m.s.epoch; {
	case !e.reported:
		m.grantFrom.Store(math.MaxInt64)
	case e.from.IsZero():
		m.grantFrom.Store(0)
	default:
		m.grantFrom.Store(max(1, int64(e.from.Sub(m.born))))
	}
}

// Run sends heartbeats until ctx ends, then tells the others that this node leaves.
func (m *Membership) Run(ctx context.Context) error {
	var reporting sync.WaitGroup
	reporting.Go(func() { m.report(ctx) })
	well := true
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			reporting.Wait()
			if well {
				m.leave(ctx)
			}
			return nil
		case <-timer.C:
		}
		err := m.Beat(ctx)
		if ctx.Err() != nil {
			continue
		}
		if well = m.note(well, err); !well && m.o.OnMiss != nil {
			m.o.OnMiss()
		}
		timer.Reset(BeatEvery - BeatEvery/20 + rand.N(BeatEvery/10))
	}
}

// note logs the first heartbeat that fails, and the first one after it that does not.
func (m *Membership) note(was bool, err error) (is bool) {
	switch is = err == nil; {
	case was && !is && redis.HasErrorPrefix(errors.Unwrap(err), "WRONGTYPE"):
		m.o.Log.Warn("no heartbeat: something else is under the key of the nodes or of the epoch (delete it)")
	case was && !is:
		m.o.Log.Warn("no heartbeat is answered: leases end until one is")
	case !was && is:
		m.o.Log.Info("heartbeats are answered again")
	}
	return is
}

// report reports what this node owes whenever the epoch is new, apart from the heartbeats, which may not wait for it.
func (m *Membership) report(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.unreported:
		}
		m.mu.Lock()
		id, done := m.s.epoch.id, m.s.epoch.reported
		m.mu.Unlock()
		if done {
			continue
		}
		if m.o.Report != nil {
			limit, cancel := context.WithTimeout(ctx, BeatEvery)
			err := m.o.Report(limit)
			cancel()
			if err != nil {
				continue // the next heartbeat wakes it again
			}
		}
		m.mu.Lock()
		m.s.epoch.Report(id)
		m.publish()
		m.mu.Unlock()
	}
}

// leave takes this node from the others' count at once; if that fails they will miss it.
func (m *Membership) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.o.Timeout)
	defer cancel()
	_ = m.o.Client.Eval(ctx, "return redis.call('ZREM', KEYS[1], ARGV[1])", []string{m.nodesKey}, m.o.Name).Err()
}

package ratesync

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Gate says whether the store may be asked. A circuit breaker is one.
type Gate interface {
	// Ready tells whether it makes sense to ask: one atomic load, as it is asked for each request.
	Ready() bool
	// Admits tells whether a bucket is among those that go to the store: after it was away, not all do at once.
	Admits(hash uint64) bool
	// Do calls the store, unless it must not be, and learns from the error.
	Do(ctx context.Context, call func(context.Context) error) error
}

// Defaults of [SharerOptions].
const (
	DefaultLeaseEntries = 1 << 16
	DefaultWorkers      = 10
)

// What a [Sharer] has waiting at most.
const (
	maxBatch   = 128  // in one call to the store
	maxAsks    = 4096 // questions, beyond which the store counts as away
	maxRefills = 1024 // leases that nobody waits for
	maxReturns = 4096 // that others will miss only as unused
	// maxOwn is how many calls there may be, with his own, for one who asks to make it himself. It saves a lone one two changes of
	// goroutine; more at once would each go alone where workers put several into one, which for 16 who ask is a fifth slower.
	maxOwn = 1
	// stopTimeout is how long a clean stop may take to hand back what was not used.
	stopTimeout = time.Second
)

// SharerOptions are what a [Sharer] needs.
type SharerOptions struct {
	Executor Executor // required
	Gate     Gate     // required
	// Node names this one among all: its leases are kept under that.
	Node string
	// LeaseShare is the part of a burst that all nodes together may hold in leases; 0: [DefaultLeaseShare].
	LeaseShare float64
	// CommandTimeout is how long a decision waits for the store; 0: [DefaultCommandTimeout].
	CommandTimeout time.Duration
	// Entries is how many buckets leases are kept of, 64 bytes each; 0: [DefaultLeaseEntries].
	Entries int
	// Workers is how many calls to the store there may be at once, as its pool has connections; 0: [DefaultWorkers].
	Workers int
	// Clock is that of the limiter's ticks; nil: the machine's monotonic one, set by the first request.
	Clock func() bucket.Ticks
	// Health says how the store is; nil: what the gate tells.
	Health func() limiter.StoreHealth
}

// Sharer keeps limits that nodes share. Between [Sharer.Run] and its end, it asks the store.
type Sharer struct {
	o       SharerOptions
	leases  *Leases
	skew    clockSkew
	grants  atomic.Uint64 // names of what is in flight
	running atomic.Bool
	started atomic.Bool
	lost    atomic.Bool // the store's data

	// slots has one for each call to the store that there may be; collecting is held by the worker that waits for one.
	slots      chan struct{}
	collecting chan struct{}
	direct     int // calls up to which who asks makes his own: see Sharer.own; 0: none
	batches    sync.Pool

	asks    chan *job
	refills chan *flight
	returns chan Op
	kept    chan Op     // returns that had no answer: see keep
	owing   atomic.Bool // something was spent since settle looked

	timers  sync.Pool
	mu      sync.Mutex
	flights map[flightKey]*flight

	figures sharerCounts
}

var _ limiter.Store = (*Sharer)(nil)

// NewSharer makes one. It does nothing until it runs: all that asks is told that the store is away.
func NewSharer(o SharerOptions) (*Sharer, error) {
	if o.Executor == nil || o.Gate == nil {
		return nil, errors.New("sharing limits needs a store and a gate to it (set SharerOptions.Executor and SharerOptions.Gate)")
	}
	if o.LeaseShare < 0 || o.LeaseShare > 1 {
		return nil, fmt.Errorf("a lease share of %v (set one above 0, at most 1)", o.LeaseShare)
	}
	setDefault(&o.LeaseShare, DefaultLeaseShare)
	setDefault(&o.CommandTimeout, DefaultCommandTimeout)
	setDefault(&o.Entries, DefaultLeaseEntries)
	setDefault(&o.Workers, DefaultWorkers)
	seed := maphash.MakeSeed() // drawn, so that a restarted node repeats neither leases nor names
	s := &Sharer{
		o:      o,
		leases: NewLeases(LeaseOptions{Entries: o.Entries, Share: o.LeaseShare, Seq: uint32(maphash.String(seed, "leases"))}),
		slots:  make(chan struct{}, o.Workers), collecting: make(chan struct{}, 1),
		asks:    make(chan *job, maxAsks),
		refills: make(chan *flight, maxRefills),
		returns: make(chan Op, maxReturns),
		kept:    make(chan Op, maxReturns),
		flights: map[flightKey]*flight{},
	}
	if p, ok := o.Executor.(Prompt); ok && p.Prompt() {
		s.direct = min(maxOwn, o.Workers)
	}
	s.grants.Store(maphash.String(seed, "grants"))
	if s.skew.clock = o.Clock; o.Clock == nil {
		start := time.Now()
		s.skew.clock = func() bucket.Ticks { return bucket.AtNanoseconds(uint64(time.Since(start))) }
	} else {
		s.skew.known.Store(true)
	}
	return s, nil
}

func setDefault[T comparable](v *T, to T) {
	var none T
	if *v == none {
		*v = to
	}
}

// clockSkew makes the limiter's ticks of another monotonic clock: the difference between the two does not change.
type clockSkew struct {
	clock func() bucket.Ticks
	known atomic.Bool
	by    atomic.Uint64
}

func (c *clockSkew) now() bucket.Ticks { return c.clock() + bucket.Ticks(c.by.Load()) }

// learn takes over the limiter's ticks with the first that are seen.
func (c *clockSkew) learn(now bucket.Ticks) (by bucket.Ticks) {
	if !c.known.CompareAndSwap(false, true) {
		return 0
	}
	by = now - c.clock()
	c.by.Store(uint64(by))
	return by
}

// Leases are what the sharer holds.
func (s *Sharer) Leases() *Leases { return s.leases }

// Beat says that the store took a heartbeat, sent so long ago, and how many nodes there are.
func (s *Sharer) Beat(ago time.Duration, nodes int) {
	s.leases.SetNodes(nodes)
	s.leases.SetBeat(s.skew.now() - ticksOf(ago))
}

// Nodes is how many there are, as far as is known.
func (s *Sharer) Nodes() int { return s.leases.Nodes() }

// Health says how the store is.
func (s *Sharer) Health() limiter.StoreHealth {
	if s.o.Health != nil {
		return s.o.Health()
	}
	return limiter.StoreHealth{Available: s.ready()}
}

func (s *Sharer) ready() bool { return s.running.Load() && s.o.Gate.Ready() }

// shared is one policy's limit.
type shared struct {
	s      *Sharer
	terms  *Terms
	leased bool // if its burst lets it be
}

// ruleScope is the scope of limits that requests name rather than are found by: see [limiter.Limiter.NewRule].
const ruleScope = "rule"

// Share makes the shared limit of a policy whose consistency is strict or leased.
func (s *Sharer) Share(p policy.Policy) (limiter.Shared, error) {
	leased := p.Consistency == policy.ConsistencyLeased
	if !leased && p.Consistency != policy.ConsistencyStrict {
		return nil, fmt.Errorf("consistency %q asks no store (use strict or leased)", p.Consistency)
	}
	own := p.Name == limiter.OwnPolicy || p.Scope == ruleScope
	h, err := useFor(s.leases, Limit{p.Algorithm, p.Limit, p.Window, p.Burst}, own, func(t *Terms) *shared { return &shared{s, t, leased} })
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", p.Name, err)
	}
	if leased && !h.terms.splits {
		return nil, fmt.Errorf("policy %s: algorithm %s can't be leased (set consistency: strict)", p.Name, p.Algorithm)
	}
	return h, nil
}

// ActsStrict tells whether a shared limit asks for each decision now, though its consistency is leased: its burst is too small
// for so many nodes.
func (s *Sharer) ActsStrict(l limiter.Shared) bool {
	h, ok := l.(*shared)
	return ok && h.leased && s.leases.Cap(h.terms) == 0
}

func (h *shared) Releasing() bool { return h.terms.limit.Algorithm == policy.AlgorithmConcurrency }

func (h *shared) Take(k limiter.Key, now limiter.Instant, hits uint64) (limiter.Outcome, limiter.Answer) {
	if !h.leased {
		return h.strict(k, now, hits)
	}
	o, a, low := h.s.leases.Take(h.terms, k, now.Ticks, hits)
	if low {
		h.s.refill(h.terms, k)
	}
	if a == limiter.Ask {
		a = h.s.ask(k, now)
	}
	return o, a
}

func (h *shared) Peek(k limiter.Key, now limiter.Instant, hits uint64) (limiter.Outcome, limiter.Answer) {
	if !h.leased {
		return h.strict(k, now, hits)
	}
	o, a := h.s.leases.Peek(h.terms, k, now.Ticks, hits)
	if a == limiter.Ask {
		a = h.s.ask(k, now)
	}
	return o, a
}

// strict knows nothing by itself but what no bucket ever holds.
func (h *shared) strict(k limiter.Key, now limiter.Instant, hits uint64) (limiter.Outcome, limiter.Answer) {
	if hits > h.terms.limit.Burst || h.Releasing() && hits > maxFlightHits {
		return limiter.Outcome{Remaining: h.terms.limit.Burst, RetryAfter: limiter.Never}, limiter.Decided
	}
	return limiter.Outcome{}, h.s.ask(k, now)
}

// ask tells whether the store may be asked of a bucket.
func (s *Sharer) ask(k limiter.Key, now limiter.Instant) limiter.Answer {
	if !s.skew.known.Load() {
		s.leases.shift(s.skew.learn(now.Ticks))
	}
	if !s.ready() || !s.o.Gate.Admits(k.Hash) {
		return limiter.Away
	}
	return limiter.Ask
}

func (h *shared) Refund(k limiter.Key, now limiter.Instant, o limiter.Outcome, hits uint64) {
	back := hits
	switch {
	case h.leased:
		back = h.s.leases.Refund(h.terms, k, now.Ticks, o, hits)
	case h.terms.limit.Algorithm == policy.AlgorithmLeakyBucket && o.Found[0] == 0:
		o.Grant = 0 // any place, and not only the last: see limiter.Limiter.refund
	}
	h.s.giveBack(Op{Verb: Return, ID: k.ID, Limit: &h.terms.limit, Hits: back, Grant: h.terms.grantOf(o)})
}

// giveBack lets a return ride along with what is asked next. One too many is lost: the others admit less.
func (s *Sharer) giveBack(op Op) {
	if op.Hits == 0 {
		return
	}
	select {
	case s.returns <- op:
		s.figures.returned.Add(op.Hits)
	default:
		s.figures.dropped.Add(op.Hits)
	}
}

package ratesync

import (
	"context"
	"fmt"
	"math"
	"sync"
)

const (
	exact      = 1<<53 - 1 // up to which Lua's numbers are whole
	grace      = 10_000    // milliseconds that a bucket is kept when it is full
	mostLeases = 4096      // fields of a bucket from which on it forgets what nodes had last
	lateLeases = 1024      // leases ago that one is still known as late
)

// Model is an [Executor] in memory that answers as [Redis] does at the same time, to the last bit: the scripts in Go.
// Its time is given, so that simulations and tests need neither a server nor patience.
type Model struct {
	mu    sync.Mutex
	clock func() int64
	// forever keeps buckets that Redis would have forgotten, as it does not at times which a test gave it.
	forever bool

	buckets map[ID]*bucketHash
	windows map[ID]*windowHash
	flights map[ID]*flightSet
	sweep   int // of buckets there are, to look for forgotten ones
}

var _ Executor = (*Model)(nil)

// NewModel makes an empty model. clock gives the store's time, in microseconds since 1970, below 2^53; it may go back.
func NewModel(clock func() int64) *Model {
	m := &Model{clock: clock}
	m.Flush()
	return m
}

// Flush forgets everything, as a Redis that lost its data.
func (m *Model) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.buckets, m.windows, m.flights = map[ID]*bucketHash{}, map[ID]*windowHash{}, map[ID]*flightSet{}
	m.sweep = 4096
}

// Buckets is how many buckets it remembers, those among them that Redis would have forgotten by now.
func (m *Model) Buckets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.buckets) + len(m.windows) + len(m.flights)
}

// Do implements [Executor]. It always succeeds, and does the operations of a call at one instant and all groups as a
// whole, as a Redis that is not a cluster does up to [maxKeys] buckets.
func (m *Model) Do(_ context.Context, node string, ops []Op, replies []Reply) error {
	if len(replies) < len(ops) {
		return fmt.Errorf("%d replies for %d operations", len(replies), len(ops))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := modelTurn{m: m, node: node, now: float64(m.clock())}
	var ready [8]modelOp
	t.ops = ready[:0]
	for i := range ops {
		o, err := prepare(&ops[i])
		if err != nil {
			replies[i] = Reply{Err: err}
			continue
		}
		t.ops = append(t.ops, modelOp{operation: o, id: ops[i].ID, at: i})
	}
	t.run()
	for i := range t.ops {
		v := t.ops[i].figures.array()
		if err := replies[t.ops[i].at].read(v[:]); err != nil {
			return err
		}
	}
	return nil
}

// modelState is one bucket while a call is at it; what is read is kept, and written at the end.
type modelState interface {
	load(t *modelTurn, id ID, o *operation)
	copy() modelState
	do(t *modelTurn, o *operation, f *figures) (done bool)
	figures(t *modelTurn, o *operation, f *figures)
	denied(t *modelTurn, o *operation)
	reset(t *modelTurn, o *operation)
	save(t *modelTurn, o *operation)
}

// modelOp is an operation, of which Op it is, and what came of it.
type modelOp struct {
	operation
	figures figures
	id      ID
	at      int
	done    bool
}

// modelTurn is one call: tail.lua in Go.
type modelTurn struct {
	m      *Model
	node   string
	now    float64
	ops    []modelOp
	states []modelTouched
}

type modelTouched struct {
	state  modelState
	id     ID
	family family
	first  *operation
}

func (t *modelTurn) run() {
	for i := range t.ops {
		o := &t.ops[i]
		o.key = t.touch(o)
	}
	for i := range t.ops {
		switch o := &t.ops[i]; {
		case o.verb != Take || o.group == 0:
			t.one(o)
		case !o.done:
			t.together(i)
		}
	}
	for i := range t.states {
		t.states[i].state.save(t, t.states[i].first)
	}
}

// touch finds what is known of an operation's bucket. A call has few.
func (t *modelTurn) touch(o *modelOp) int {
	for i := range t.states {
		if s := &t.states[i]; s.id == o.id && s.family == o.family {
			return i
		}
	}
	var s modelState
	switch o.family {
	case buckets:
		s = new(modelBucket)
	case windows:
		s = new(modelWindow)
	default:
		s = new(modelFlight)
	}
	s.load(t, o.id, &o.operation)
	t.states = append(t.states, modelTouched{s, o.id, o.family, &o.operation})
	return len(t.states) - 1
}

func (t *modelTurn) one(o *modelOp) bool {
	s := t.states[o.key].state
	o.figures = figures{}
	if o.verb == Reset {
		s.reset(t, &o.operation)
		s.figures(t, &o.operation, &o.figures)
		return true
	}
	done := s.do(t, &o.operation, &o.figures)
	s.figures(t, &o.operation, &o.figures)
	return done
}

// together does the takes of a group from the i-th operation on: all, or none.
func (t *modelTurn) together(i int) {
	group, denied := t.ops[i].group, false
	before := map[int]modelState{}
	for j := i; j < len(t.ops); j++ {
		o := &t.ops[j]
		if o.verb != Take || o.group != group {
			continue
		}
		if before[o.key] == nil {
			before[o.key] = t.states[o.key].state.copy()
		}
		if !t.one(o) {
			denied = true
		}
		o.done = true
	}
	if !denied {
		return
	}
	for j := i; j < len(t.ops); j++ {
		o := &t.ops[j]
		if o.verb != Take || o.group != group {
			continue
		}
		s := before[o.key]
		t.states[o.key].state = s
		s.denied(t, &o.operation)
		s.figures(t, &o.operation, &o.figures)
		o.figures.grant = 0
	}
}

// expires is when a key is forgotten that has so many microseconds until it is full.
func (t *modelTurn) expires(left float64) float64 { return t.now + (math.Ceil(left/1000)+grace)*1000 }

func (t *modelTurn) gone(expires float64) bool { return !t.m.forever && t.now >= expires }

// grown looks for what Redis would have forgotten, once there is twice as much as the last time.
func (t *modelTurn) grown() {
	m := t.m
	if len(m.buckets)+len(m.windows)+len(m.flights) < m.sweep {
		return
	}
	for id, h := range m.buckets {
		if t.gone(h.expires) {
			delete(m.buckets, id)
		}
	}
	for id, h := range m.windows {
		if t.gone(h.expires) {
			delete(m.windows, id)
		}
	}
	for id, h := range m.flights {
		if t.gone(h.expires) {
			delete(m.flights, id)
		}
	}
	m.sweep = max(4096, 2*(len(m.buckets)+len(m.windows)+len(m.flights)))
}

// modelLease is the last lease that a node had of a bucket.
type modelLease struct {
	seq     uint32
	got, of float64
}

// late says whether a lease is one of which the same or a later is known, and whether it is the same.
func (l *modelLease) late(known bool, seq uint32) (late, same bool) {
	ago := l.seq - seq
	late = known && seq != 0 && ago < lateLeases
	return late, late && ago == 0
}

// remember keeps a node's lease.
func remember(leases map[string]modelLease, node string, l modelLease) map[string]modelLease {
	if leases == nil {
		leases = map[string]modelLease{}
	}
	leases[node] = l
	return leases
}

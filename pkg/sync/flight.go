package ratesync

import (
	"sync/atomic"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// flightKey names a flight: there is one for a bucket at a time.
type flightKey struct {
	id    ID
	terms *Terms
}

// flight is one lease that is being asked for, and all who wait for it.
type flight struct {
	terms *Terms
	key   limiter.Key

	// Under Sharer.mu.
	sent     bool         // who comes now is not counted in any more
	quiet    bool         // queued where nobody waits
	hits     uint64       // the fewest that somebody waits for; 0: nobody does
	waiting  uint64       // hits of all
	deadline bucket.Ticks // of the last of them

	done chan struct{} // closed when it is over
	// Before done is closed.
	away   bool // no answer came
	broken bool // the store has something else under this key
}

// join finds or makes the flight of a bucket for one who waits for hits. Queue tells whether it has to be put into the queue
// of those who wait.
func (s *Sharer) join(t *Terms, k limiter.Key, hits uint64, deadline bucket.Ticks) (f *flight, queue bool) {
	key := flightKey{k.ID, t}
	s.mu.Lock()
	defer s.mu.Unlock()
	f = s.flights[key]
	switch {
	case f == nil:
		f, queue = &flight{terms: t, key: k, done: make(chan struct{})}, true
		t.users.Add(1)
		s.flights[key] = f
	case f.sent:
		return f, false
	default:
		queue = f.quiet // now somebody waits
	}
	f.quiet = false
	f.waiting += hits
	f.deadline = deadline
	if f.hits == 0 || hits < f.hits {
		f.hits = hits
	}
	return f, queue
}

// refill asks for the next lease of a bucket while there is some left of the last. It is called once a lease.
func (s *Sharer) refill(t *Terms, k limiter.Key) {
	if !s.ready() || !s.o.Gate.Admits(k.Hash) {
		return
	}
	key := flightKey{k.ID, t}
	s.mu.Lock()
	if s.flights[key] != nil {
		s.mu.Unlock()
		return
	}
	f := &flight{terms: t, key: k, quiet: true, done: make(chan struct{})}
	t.users.Add(1)
	s.flights[key] = f
	s.mu.Unlock()
	select {
	case s.refills <- f:
		s.figures.refills.Add(1)
	default:
		s.figures.busy.Add(1)
		s.abort(f) // unless somebody has joined and sent it by now
	}
}

// depart takes a flight out of the queue, unless another worker did, or all who waited have gone.
func (s *Sharer) depart(f *flight, now bucket.Ticks) (hits, waiting uint64, ok bool) {
	s.mu.Lock()
	if f.sent {
		s.mu.Unlock()
		return 0, 0, false
	}
	f.sent = true
	hits, waiting = f.hits, f.waiting
	late := hits > 0 && bucket.Debt(f.deadline, now) == 0
	s.mu.Unlock()
	if late {
		s.figures.expired.Add(1)
		s.land(f, true, false)
	}
	return hits, waiting, !late
}

// land ends a flight. Who waits looks then at what there is.
func (s *Sharer) land(f *flight, away, broken bool) {
	s.mu.Lock()
	delete(s.flights, flightKey{f.key.ID, f.terms})
	f.sent = true
	s.mu.Unlock()
	f.away, f.broken = away, broken
	s.leases.terms.leave(f.terms)
	close(f.done)
}

// bundle is what one question asks for without leases. Of its takes, those of its group are done all or none.
type bundle struct {
	ops      []Op
	replies  []Reply
	err      error
	deadline bucket.Ticks
	state    atomic.Uint32
	done     chan struct{}
	one      [1]Reply // replies, of most
}

const (
	bundleWaiting uint32 = iota
	bundleAnswered
	bundleAbandoned
)

func newBundle(ops []Op, deadline bucket.Ticks) *bundle {
	group := 0
	for i := range ops {
		group += ops[i].Group
	}
	if group == 1 {
		for i := range ops {
			ops[i].Group = 0 // one alone is no group
		}
	}
	b := &bundle{ops: ops, deadline: deadline, done: make(chan struct{})}
	if b.replies = b.one[:]; len(ops) != 1 {
		b.replies = make([]Reply, len(ops))
	}
	return b
}

// answer hands over the replies. False: nobody waits for them any more.
func (b *bundle) answer(replies []Reply, err error) bool {
	b.err = err
	copy(b.replies, replies)
	if !b.state.CompareAndSwap(bundleWaiting, bundleAnswered) {
		return false
	}
	close(b.done)
	return true
}

// abandon tells whether it came before the answer.
func (b *bundle) abandon() bool { return b.state.CompareAndSwap(bundleWaiting, bundleAbandoned) }

func (b *bundle) answered() bool { return b.state.Load() == bundleAnswered }

// spoilt tells whether one of a group is broken, so that the others of it were not done.
func (b *bundle) spoilt() bool {
	for i := range b.ops {
		if b.ops[i].Group != 0 && b.replies[i].Err != nil {
			return true
		}
	}
	return false
}

// undo gives back what was granted that nobody uses.
func (s *Sharer) undo(ops []Op, replies []Reply, err error) {
	group := true
	for i := range ops {
		group = group && (ops[i].Group == 0 || replies[i].Err == nil && replies[i].Admitted)
	}
	for i := range ops {
		op, r := &ops[i], &replies[i]
		taken := r.Err == nil && r.Admitted && (op.Group == 0 || group)
		if err != nil || r.unanswered() != nil {
			// It is not known whether an unanswered take was done. What is in flight has a name, and may be given back even so.
			taken = op.Grant != 0
		}
		if op.Verb != Take || !taken {
			continue
		}
		s.giveBack(Op{Verb: Return, ID: op.ID, Limit: op.Limit, Hits: op.Hits, Grant: max(op.Grant, r.Grant)})
	}
}

// job is what one question puts into the queue.
type job struct {
	flights []*flight
	bundle  *bundle
}

// any tells whether it asks for anything.
func (j *job) any() bool { return j.bundle != nil || len(j.flights) > 0 }

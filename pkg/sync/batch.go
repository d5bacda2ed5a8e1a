package ratesync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// errStopped is what is told to those whose question was in the queue when the sharer stopped.
var errStopped = errors.New("the sharer has stopped")

// Run asks the store until ctx is done, then hands back what was leased and not used, within a second. No goroutine is left when
// it returns. It runs once.
func (s *Sharer) Run(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("a sharer runs once (make another)")
	}
	s.running.Store(true)
	var workers errgroup.Group
	for range s.o.Workers {
		workers.Go(func() error { s.work(ctx); return nil })
	}
	workers.Go(func() error { s.settle(ctx); return nil })
	err := workers.Wait()
	for range s.o.Workers {
		s.slots <- struct{}{} // the last of those who call for themselves has the command timeout
	}
	s.drain()
	return errors.Join(err, s.handBack(context.WithoutCancel(ctx)))
}

// work is one worker: it takes what there is in the queues, those who wait first, into one call.
func (s *Sharer) work(ctx context.Context) {
	b := &batch{s: s}
	for b.collect(ctx) {
		b.do(ctx)
		<-s.slots
	}
	s.running.Store(false)
}

// collect waits for what begins the next batch and for a slot, and adds what came meanwhile. One worker does at a time, so
// that what waits for a slot waits in one batch.
func (b *batch) collect(ctx context.Context) bool {
	b.s.collecting <- struct{}{}
	defer func() { <-b.s.collecting }()
	if !b.first(ctx) {
		return false
	}
	b.s.slots <- struct{}{}
	b.fill()
	return true
}

func (b *batch) clear() {
	clear(b.leases)
	clear(b.bundles)
	b.ops, b.leases, b.bundles = b.ops[:0], b.leases[:0], b.bundles[:0]
}

// own lets who asks call the store himself while few do: a worker would be no faster, and has to be woken up.
func (s *Sharer) own(j *job) bool {
	if len(s.slots) >= s.direct {
		return false
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	defer func() { <-s.slots }()
	if !s.running.Load() {
		return false
	}
	b, ok := s.batches.Get().(*batch)
	if !ok {
		b = &batch{s: s}
	}
	b.clear()
	b.now = s.skew.now()
	b.add(j)
	b.fill()
	b.do(context.Background()) // what others wait for may be in it, and it has the command timeout
	s.batches.Put(b)
	return true
}

// first waits for what begins the next batch.
func (b *batch) first(ctx context.Context) bool {
	b.clear()
	select {
	case <-ctx.Done():
		return false
	case j := <-b.s.asks:
		runtime.Gosched() // others that are about to ask may share the call
		b.now = b.s.skew.now()
		b.add(j)
	case f := <-b.s.refills:
		b.now = b.s.skew.now()
		b.lease(f)
	case op := <-b.s.returns:
		b.now = b.s.skew.now()
		b.ops = append(b.ops, op)
	}
	return true
}

// batch is one call to the store, and what comes of it.
type batch struct {
	s       *Sharer
	now     bucket.Ticks
	ops     []Op
	replies []Reply
	leases  []leaseInBatch
	bundles []bundleInBatch
}

type leaseInBatch struct {
	flight *flight
	plan   LeasePlan
	at     int
}

type bundleInBatch struct {
	bundle *bundle
	at     int
}

// fill adds what is waiting, as long as there is room.
func (b *batch) fill() {
	for len(b.ops) < maxBatch {
		select {
		case j := <-b.s.asks:
			b.add(j)
			continue
		default:
		}
		select {
		case f := <-b.s.refills:
			b.lease(f)
			continue
		default:
		}
		select {
		case op := <-b.s.returns:
			b.ops = append(b.ops, op)
			continue
		default:
		}
		return
	}
}

func (b *batch) add(j *job) {
	for _, f := range j.flights {
		b.lease(f)
	}
	u := j.bundle
	if u == nil {
		return
	}
	if bucket.Debt(u.deadline, b.now) == 0 {
		b.s.figures.expired.Add(1)
		u.answer(nil, context.DeadlineExceeded)
		return
	}
	b.bundles = append(b.bundles, bundleInBatch{u, len(b.ops)})
	for _, op := range u.ops {
		if op.Group != 0 {
			op.Group = len(b.bundles)
		}
		b.ops = append(b.ops, op)
	}
}

func (b *batch) lease(f *flight) {
	hits, waiting, ok := b.s.depart(f, b.now)
	if !ok {
		return
	}
	p, ok := b.s.leases.Plan(f.terms, f.key, b.now, hits, waiting)
	if !ok {
		b.s.land(f, false, false)
		return
	}
	b.leases = append(b.leases, leaseInBatch{f, p, len(b.ops)})
	b.ops = append(b.ops, p.Op)
}

// do makes the call and hands out the replies.
func (b *batch) do(ctx context.Context) {
	if len(b.ops) == 0 {
		return
	}
	b.replies = slices.Grow(b.replies[:0], len(b.ops))[:len(b.ops)]
	clear(b.replies)
	err := b.s.call(ctx, b.ops, b.replies)
	now := b.s.skew.now()
	for i := range b.leases {
		b.land(&b.leases[i], err, now)
	}
	for i := range b.bundles {
		u := b.bundles[i].bundle
		replies := b.replies[b.bundles[i].at:][:len(u.ops)]
		if !u.answer(replies, err) {
			b.s.figures.late.Add(1)
			b.s.undo(u.ops, replies, err)
		}
	}
}

func (b *batch) land(l *leaseInBatch, err error, now bucket.Ticks) {
	s, r := b.s, b.replies[l.at]
	err = cmp.Or(err, r.unanswered())
	back := s.leases.Apply(&l.plan, r, err, now)
	broken := err == nil && (r.Err != nil || !sane(l.flight.terms, &r))
	if broken {
		s.figures.broken.Add(1)
	}
	s.land(l.flight, err != nil, broken)
	s.giveBack(Op{Verb: Return, ID: l.plan.Op.ID, Limit: l.plan.Op.Limit, Hits: back, Grant: r.Grant})
}

// call does operations through the gate, in the time that a decision may wait.
func (s *Sharer) call(ctx context.Context, ops []Op, replies []Reply) error {
	s.figures.calls.Add(1)
	s.figures.ops.Add(uint64(len(ops)))
	err := s.o.Gate.Do(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.o.CommandTimeout) // within the gate, which holds it against the store
		defer cancel()
		return s.o.Executor.Do(ctx, s.o.Node, ops, replies)
	})
	if err != nil {
		s.figures.failed.Add(1)
		s.keep(ops)
	} else {
		s.resume()
	}
	return err
}

// drain ends what nobody will ask any more.
func (s *Sharer) drain() {
	for {
		select {
		case j := <-s.asks:
			if j.bundle != nil {
				j.bundle.answer(nil, errStopped)
			}
			for _, f := range j.flights {
				s.abort(f)
			}
		case f := <-s.refills:
			s.abort(f)
		default:
			return
		}
	}
}

func (s *Sharer) abort(f *flight) {
	if _, _, ok := s.depart(f, s.skew.now()); ok {
		s.land(f, true, false)
	}
}

// handBack returns what was leased and not used.
func (s *Sharer) handBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var all []Op
	for len(s.returns) > 0 {
		all = append(all, <-s.returns)
	}
	for len(s.kept) > 0 {
		all = append(all, <-s.kept)
	}
	s.leases.Unused(s.skew.now(), func(op Op) bool {
		s.figures.returned.Add(op.Hits)
		all = append(all, op)
		return true
	})
	for len(all) > 0 {
		ops := all[:min(len(all), maxBatch)]
		all = all[len(ops):]
		err := s.o.Gate.Do(ctx, func(ctx context.Context) error {
			return s.o.Executor.Do(ctx, s.o.Node, ops, make([]Reply, len(ops)))
		})
		if err != nil {
			return fmt.Errorf("handing back unused leases: %w (they are lost: the other nodes admit so much less)", err)
		}
	}
	return nil
}

// Lost says that the store lost its data: the next Recover tells it what this node knows of its buckets.
func (s *Sharer) Lost() { s.lost.Store(true) }

// Recover reports what was spent while the store was away, and forgets it. It has to be called before the store is asked again. What
// could not be reported is still owed when it fails.
func (s *Sharer) Recover(ctx context.Context) error {
	now, lost := s.skew.now(), s.lost.Load()
	var owed []Debt
	var err error
	report := func() bool {
		ops, replies := make([]Op, len(owed)), make([]Reply, len(owed))
		for i := range owed {
			ops[i] = owed[i].Op
		}
		err = s.report(ctx, ops, replies)
		for i, d := range owed {
			if err != nil || replies[i].unanswered() != nil {
				s.leases.Owe(d, now)
				s.owing.Store(true) // to one server of a cluster, which is away, if not to all
			}
		}
		owed = owed[:0]
		return err == nil
	}
	s.leases.Owed(now, lost, func(d Debt) bool {
		owed = append(owed, d)
		return len(owed) < maxBatch || report()
	})
	if err == nil && len(owed) > 0 {
		report()
	}
	if err == nil && lost {
		s.lost.Store(false)
	}
	return err
}

func (s *Sharer) report(ctx context.Context, ops []Op, replies []Reply) error {
	ctx, cancel := context.WithTimeout(ctx, max(s.o.CommandTimeout, 100*time.Millisecond)) // nobody waits for it
	defer cancel()
	err := s.o.Executor.Do(ctx, s.o.Node, ops, replies)
	if err != nil {
		err = s.o.Executor.Do(ctx, s.o.Node, ops, replies) // by the same numbers, if only the answer was lost
	}
	if err != nil {
		return fmt.Errorf("reporting what was spent while the store was away: %w", err)
	}
	for i := range replies {
		switch {
		case replies[i].unanswered() != nil: // one server of a cluster is away, for which the others need not wait
			continue
		case replies[i].Err != nil:
			s.figures.broken.Add(1) // not owed any more: it will never be taken
		}
		s.figures.reported.Add(1)
	}
	return nil
}

// Reset makes a bucket a full one, for all nodes.
func (s *Sharer) Reset(ctx context.Context, l limiter.Shared, k limiter.Key) error {
	h, ok := l.(*shared)
	if !ok || h.s != s {
		return errors.New("the limit is not of this store")
	}
	if !s.ready() {
		return errors.New("the store is away (try again when it is back)")
	}
	ops, replies := []Op{{Verb: Reset, ID: k.ID, Limit: &h.terms.limit}}, make([]Reply, 1)
	if err := errors.Join(s.call(ctx, ops, replies), replies[0].Err); err != nil {
		return fmt.Errorf("resetting a bucket: %w", err)
	}
	s.leases.Forget(h.terms, k)
	return nil
}

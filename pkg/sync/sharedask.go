package ratesync

import (
	"context"
	"sync"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// maxRounds is how often a question that others were faster for is asked again.
const maxRounds = 64

// part is what is known of one asking.
type part struct {
	h      *shared
	flight *flight
	op     int  // of the group, or none, or gone
	taken  bool // of a lease
	done   bool // its outcome is there
}

// The numbers of operations that are none: of a part that asks for a lease, and of one that may no longer, while the group is
// on its way or back. That is too rare to be worth a second group: the store is as good as away.
const (
	none = -1
	gone = -2
)

// question is one call of Ask.
type question struct {
	s        *Sharer
	all      []limiter.Asking
	parts    []part
	group    *group
	deadline bucket.Ticks
	timer    *time.Timer
	rounds   int
}

// timers are used again: a question needs one for a millisecond.
var timers = sync.Pool{New: func() any { t := time.NewTimer(time.Hour); t.Stop(); return t }}

// Ask decides what limits could not by themselves. What asks for leases and what does not goes into one call.
func (s *Sharer) Ask(ctx context.Context, all []limiter.Asking) {
	s.figures.asks.Add(1)
	now := s.skew.now()
	var few [8]part
	q := question{s: s, all: all, parts: append(few[:0], make([]part, len(all))...), deadline: now + ticksOf(s.o.CommandTimeout)}
	if !s.ready() || !q.begin() {
		q.away()
		return
	}
	q.timer = timers.Get().(*time.Timer)
	q.timer.Reset(s.o.CommandTimeout)
	q.run(ctx, now)
	q.timer.Stop()
	timers.Put(q.timer)
}

// begin finds out whose limits they are.
func (q *question) begin() bool {
	for i := range q.all {
		h, ok := q.all[i].Shared.(*shared)
		if !ok || h.s != q.s {
			return false
		}
		q.parts[i] = part{h: h, op: none}
	}
	return true
}

// run asks until all are decided: once, unless others spend a lease before those who waited for it do.
func (q *question) run(ctx context.Context, now bucket.Ticks) {
	for ; ; q.rounds++ {
		j, denied := q.round(now)
		switch {
		case denied || j == nil:
			q.finish(now)
			return
		case q.rounds >= maxRounds:
			q.contended(now)
			return
		case !q.s.enqueue(j):
			q.s.figures.busy.Add(1)
			q.away()
			return
		}
		q.s.figures.waits.Add(1)
		answered := q.wait(ctx)
		now = q.s.skew.now()
		switch {
		case answered && q.answered(now):
		case !answered && q.rounds > 0:
			q.contended(now) // the store does answer, but others were faster each time
			return
		default:
			q.away()
			return
		}
	}
}

// round takes what there is, and says what to ask for the rest: nothing if all are decided, or one is denied.
func (q *question) round(now bucket.Ticks) (j *job, denied bool) {
	asks := false
	for i := range q.all {
		a, p := &q.all[i], &q.parts[i]
		if !p.done && p.h.leased && q.local(a, p, now) && !a.Outcome.Admitted && !a.Peek {
			return nil, true
		}
		asks = asks || !p.done
	}
	if !asks {
		return nil, false
	}
	j = &job{}
	var ops []Op
	for i := range q.all {
		a, p := &q.all[i], &q.parts[i]
		switch {
		case p.done:
		case p.h.leased && !a.Peek && q.s.leases.Splits(p.h.terms, now, a.Hits):
			f, queue := q.s.join(p.h.terms, a.Key, a.Hits, q.deadline)
			if p.flight = f; queue {
				j.flights = append(j.flights, f)
			}
		case q.group == nil:
			p.op = len(ops)
			ops = append(ops, q.s.op(a, p.h))
		default:
			p.op = gone
		}
	}
	if ops != nil {
		q.group = &group{ops: ops, replies: make([]Reply, len(ops)), deadline: q.deadline, done: make(chan struct{})}
		j.group = q.group
	}
	return j, false
}

// local decides by what this node holds, if that suffices.
func (q *question) local(a *limiter.Asking, p *part, now bucket.Ticks) bool {
	var answer limiter.Answer
	if a.Peek {
		a.Outcome, answer = q.s.leases.Peek(p.h.terms, a.Key, now, a.Hits)
	} else {
		var low bool
		a.Outcome, answer, low = q.s.leases.Take(p.h.terms, a.Key, now, a.Hits)
		p.taken = answer == limiter.Decided && a.Outcome.Admitted
		if low {
			q.s.refill(p.h.terms, a.Key)
		}
	}
	p.done = answer == limiter.Decided
	return p.done
}

// op is the operation that decides by itself.
func (s *Sharer) op(a *limiter.Asking, h *shared) Op {
	op := Op{Verb: Take, ID: a.Key.ID, Limit: &h.terms.limit, Hits: a.Hits}
	switch {
	case a.Peek:
		op.Verb = Look
	case h.Releasing():
		for op.Grant == 0 {
			op.Grant = s.grants.Add(1)
		}
	}
	return op
}

// enqueue hands a job to the workers, unless too many wait.
func (s *Sharer) enqueue(j *job) bool {
	if j.group == nil && len(j.flights) == 0 {
		return true // others have asked for all of it
	}
	select {
	case s.asks <- j:
		return true
	default:
	}
	for _, f := range j.flights {
		s.abort(f)
	}
	return false
}

// wait waits for the answers to all that was asked, and no longer than the command timeout.
func (q *question) wait(ctx context.Context) bool {
	if q.group != nil && !q.waitFor(ctx, q.group.done) && q.group.abandon() {
		return false
	}
	for i := range q.parts {
		if f := q.parts[i].flight; f != nil && !q.parts[i].done && !q.waitFor(ctx, f.done) {
			return false
		}
	}
	return true
}

func (q *question) waitFor(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	case <-q.timer.C:
		q.timer.Reset(0) // for what else is waited for
		return false
	}
}

// answered takes over what came. False: for one of them nothing did.
func (q *question) answered(now bucket.Ticks) bool {
	for i := range q.parts {
		p := &q.parts[i]
		if f := p.flight; f != nil && !p.done {
			if f.away || f.broken {
				return false
			}
			p.flight = nil
		}
		if p.op == none || p.done {
			continue
		}
		if p.op == gone || q.group.err != nil {
			return false
		}
		r := &q.group.replies[p.op]
		if r.Err != nil || !sane(p.h.terms, r) {
			q.s.figures.broken.Add(1)
			return false
		}
		q.all[i].Outcome = p.h.outcome(&q.group.ops[p.op], r, now)
		p.done = true
		if p.h.leased {
			q.s.leases.Note(p.h.terms, q.all[i].Key, now, *r)
		}
	}
	return true
}

// outcome is what a reply means to a limiter.
func (h *shared) outcome(op *Op, r *Reply, now bucket.Ticks) limiter.Outcome {
	o := limiter.Outcome{
		Admitted: r.Admitted, Remaining: r.Left, ResetAfter: min(r.Full, 2*h.terms.limit.Window+h.terms.bucket.Depth.Duration()),
		RetryAfter: r.Wait, Delay: r.Delay, Grant: op.Grant,
	}
	if h.terms.windowed {
		o.Found[0] = now + min(ticksOf(r.Full), h.terms.bucket.Depth)
		if r.Good > 0 {
			o.Found[0] = now + ticksOf(r.Good)
		}
	}
	if !o.Admitted && o.RetryAfter == 0 {
		o.RetryAfter = time.Millisecond
	}
	return o
}

// finish says of all that they are decided, and gives back what was taken if one is denied.
func (q *question) finish(now bucket.Ticks) {
	admitted := true
	for i := range q.all {
		a, p := &q.all[i], &q.parts[i]
		if !p.done { // another was denied before it had to be asked for
			a.Outcome = limiter.Outcome{Admitted: true}
		}
		a.Answer = limiter.Decided
		admitted = admitted && (a.Peek || a.Outcome.Admitted)
	}
	if !admitted {
		q.release(now)
	}
}

// release gives back all that was taken.
func (q *question) release(now bucket.Ticks) {
	for i := len(q.parts) - 1; i >= 0; i-- {
		a, p := &q.all[i], &q.parts[i]
		if p.taken {
			back := q.s.leases.Refund(p.h.terms, a.Key, now, a.Outcome, a.Hits)
			q.s.giveBack(Op{Verb: Return, ID: a.Key.ID, Limit: &p.h.terms.limit, Hits: back})
			p.taken = false
		}
	}
	g := q.group
	if g == nil || g.abandon() {
		return // whoever gets the answer sees to it
	}
	if g.err != nil || !g.denied() {
		q.s.undo(g.ops, g.replies, g.err)
	}
}

// denied tells whether a group's takes were none.
func (g *group) denied() bool {
	for i := range g.ops {
		if g.ops[i].Verb == Take && (g.replies[i].Err != nil || !g.replies[i].Admitted) {
			return true
		}
	}
	return false
}

// away says of all that the store did not decide, but of those that are denied in any case.
func (q *question) away() {
	q.s.figures.away.Add(1)
	q.release(q.s.skew.now())
	for i := range q.all {
		a, p := &q.all[i], &q.parts[i]
		if p.done && !a.Outcome.Admitted {
			a.Answer = limiter.Decided
			continue
		}
		a.Outcome, a.Answer = limiter.Outcome{}, limiter.Away
	}
}

// contended denies what others were faster for, again and again, for as long as a decision may take: they use all
// that this node may hold.
func (q *question) contended(now bucket.Ticks) {
	q.s.figures.contended.Add(1)
	for i := range q.all {
		if p := &q.parts[i]; !p.done {
			q.all[i].Outcome, p.done = limiter.Outcome{RetryAfter: maxPause}, true
		}
	}
	q.finish(now)
}

package ratesync

import (
	"context"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	// leaseRounds is how often a question asks for a lease that others then spend, before it takes what it needs itself.
	leaseRounds = 3
	// maxRounds is how often a question that others were faster for is asked again, if it can't: see job.
	maxRounds = 64
)

// askedPart is what is known of one asking.
type askedPart struct {
	h      *shared
	flight *flight
	op     int // of the bundle, or none, or gone
	state  partState
	leased bool // what it took is of a lease
}

type partState uint8

const (
	partOpen    partState = iota
	partDecided           // its outcome is there
	partAway
)

// The numbers of operations that are none: of a part that asks for a lease, and of one that may no longer, while the bundle is
// on its way or back. That is too rare to be worth a second bundle: the store is as good as away.
const (
	none = -1
	gone = -2
)

// question is one call of Ask.
type question struct {
	s        *Sharer
	all      []limiter.Asking
	parts    []askedPart
	bundle   *bundle
	deadline bucket.Ticks
	timer    *time.Timer
	rounds   int
}

// Ask decides what limits could not by themselves. What asks for leases and what does not goes into one call.
func (s *Sharer) Ask(ctx context.Context, all []limiter.Asking) {
	s.figures.asks.Add(1)
	now := s.skew.now()
	var few [8]askedPart
	q := question{s: s, all: all, parts: append(few[:0], make([]askedPart, len(all))...), deadline: now + ticksOf(s.o.CommandTimeout)}
	if q.begin() && s.ready() {
		q.run(ctx, now)
		if q.timer != nil {
			q.timer.Stop()
			s.timers.Put(q.timer)
		}
	}
	q.finish(s.skew.now())
}

// timer is one that fires at the deadline. They are used again: a question needs one for a millisecond.
func (s *Sharer) timer(deadline bucket.Ticks) *time.Timer {
	left := roundUp(bucket.Debt(deadline, s.skew.now()))
	if t, ok := s.timers.Get().(*time.Timer); ok {
		t.Reset(left)
		return t
	}
	return time.NewTimer(left)
}

// begin finds out whose limits they are.
func (q *question) begin() bool {
	ours := true
	for i := range q.all {
		h, ok := q.all[i].Shared.(*shared)
		ours = ours && ok && h.s == q.s
		q.parts[i] = askedPart{h: h, op: none}
	}
	return ours
}

// run asks until all are decided: once, unless others spend a lease before those who waited for it do. Who is open at the end has
// no answer.
func (q *question) run(ctx context.Context, now bucket.Ticks) {
	for ; q.rounds < maxRounds; q.rounds++ {
		if !q.here(now) {
			return
		}
		j := q.job(now)
		own := q.rounds == 0 && j.any() && q.s.own(j) // later there is less time than a call may take
		if !own && !q.s.enqueue(j) {
			q.s.figures.busy.Add(1)
			q.bundle = nil
			return
		}
		q.s.figures.waits.Add(1)
		answered := q.wait(ctx)
		now = q.s.skew.now()
		q.collect(now)
		if !answered {
			break
		}
	}
	if q.rounds > 0 {
		q.contended()
	}
}

// here decides what is asked for a lease by what this node holds now, and tells whether the rest has to be asked for: not
// if one is denied.
func (q *question) here(now bucket.Ticks) (rest bool) {
	for i := range q.all {
		a, p := &q.all[i], &q.parts[i]
		if p.state == partOpen && p.h.leased {
			q.local(a, p, now)
		}
		rest = rest || p.state == partOpen
		if denies(a, p) {
			return false
		}
	}
	return rest
}

// denies tells whether a part keeps the others from taking.
func denies(a *limiter.Asking, p *askedPart) bool {
	return p.state == partDecided && !a.Outcome.Admitted && !a.Peek && !a.Shadow
}

func (q *question) local(a *limiter.Asking, p *askedPart, now bucket.Ticks) {
	var answer limiter.Answer
	if a.Peek {
		a.Outcome, answer = q.s.leases.Peek(p.h.terms, a.Key, now, a.Hits)
	} else {
		var low bool
		a.Outcome, answer, low = q.s.leases.Take(p.h.terms, a.Key, now, a.Hits)
		p.leased = answer == limiter.Decided && a.Outcome.Admitted
		if low {
			q.s.refill(p.h.terms, a.Key)
		}
	}
	if answer == limiter.Decided {
		p.state = partDecided
	}
}

// job is what the store is asked for the open parts.
func (q *question) job(now bucket.Ticks) (j *job) {
	j = &job{}
	var ops []Op
	for i := range q.all {
		a, p := &q.all[i], &q.parts[i]
		switch {
		case p.state != partOpen || p.op != none:
		case p.h.leased && !a.Peek && (q.rounds < leaseRounds || q.bundle != nil) && q.s.leases.Splits(p.h.terms, now, a.Hits):
			f, queue := q.s.join(p.h.terms, a.Key, a.Hits, q.deadline)
			if p.flight = f; queue {
				j.flights = append(j.flights, f)
			}
		case q.bundle == nil:
			p.op = len(ops)
			ops = append(ops, q.s.op(a, p.h))
		default:
			p.op = gone
		}
	}
	if ops != nil {
		q.bundle = newBundle(ops, q.deadline)
		j.bundle = q.bundle
	}
	return j
}

// op is the operation that decides by itself.
func (s *Sharer) op(a *limiter.Asking, h *shared) Op {
	op := Op{Verb: Take, ID: a.Key.ID, Limit: &h.terms.limit, Hits: a.Hits}
	if a.Peek {
		op.Verb = Look
		return op
	}
	if !a.Shadow {
		op.Group = 1
	}
	for h.Releasing() && op.Grant == 0 {
		op.Grant = s.grants.Add(1)
	}
	return op
}

// enqueue hands a job to the workers, unless too many wait.
func (s *Sharer) enqueue(j *job) bool {
	if !j.any() {
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
	if q.bundle != nil && !q.waitFor(ctx, q.bundle.done) && q.bundle.abandon() {
		return false
	}
	for i := range q.parts {
		if p := &q.parts[i]; p.state == partOpen && p.flight != nil && !q.waitFor(ctx, p.flight.done) {
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
	if q.timer == nil {
		q.timer = q.s.timer(q.deadline)
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

// collect takes over what came.
func (q *question) collect(now bucket.Ticks) {
	for i := range q.parts {
		p := &q.parts[i]
		switch {
		case p.state != partOpen:
		case p.flight != nil:
			select {
			case <-p.flight.done:
				if p.flight.away || p.flight.broken {
					p.state = partAway
				}
				p.flight = nil
			default:
			}
		case p.op == gone:
			p.state = partAway
		case p.op != none:
			q.reply(&q.all[i], p, now)
		}
	}
	q.again()
}

// reply takes over what came of one operation.
func (q *question) reply(a *limiter.Asking, p *askedPart, now bucket.Ticks) {
	b := q.bundle
	if !b.answered() || b.err != nil {
		p.state = partAway
		return
	}
	op, r := &b.ops[p.op], &b.replies[p.op]
	if r.Err != nil || !sane(p.h.terms, r) {
		if r.unanswered() == nil {
			q.s.figures.broken.Add(1)
		}
		p.state = partAway
		return
	}
	a.Outcome, p.state = p.h.outcome(op, r), partDecided
	if p.h.leased {
		q.s.leases.Note(p.h.terms, a.Key, now, *r)
	}
}

// again opens those parts once more that took nothing because another of their group is broken: that one counts for
// nothing.
func (q *question) again() {
	if q.bundle == nil || !q.bundle.answered() || !q.bundle.spoilt() {
		return
	}
	for i := range q.parts {
		if p := &q.parts[i]; p.state == partDecided && p.op >= 0 && q.bundle.ops[p.op].Group != 0 && !denies(&q.all[i], p) {
			p.state, p.op = partOpen, none
		}
	}
	q.bundle = nil
}

// outcome is what a reply means to a limiter.
func (h *shared) outcome(op *Op, r *Reply) limiter.Outcome {
	o := limiter.Outcome{
		Admitted: r.Admitted, Remaining: r.Left, ResetAfter: r.Full, RetryAfter: r.Wait, Delay: r.Delay, Grant: op.Grant,
	}
	if o.Grant == 0 {
		o.Grant = r.Grant
	}
	if h.terms.limit.Algorithm == policy.AlgorithmLeakyBucket {
		o.Found[0] = bucket.Ticks(r.Grant) // see Refund
	}
	if o.Admitted {
		o.RetryAfter = 0
	} else {
		o.RetryAfter = max(o.RetryAfter, time.Millisecond)
	}
	return o
}

// finish says what is decided, and gives back what was taken if one is denied.
func (q *question) finish(now bucket.Ticks) {
	denied, away := false, false
	for i := range q.all {
		denied = denied || denies(&q.all[i], &q.parts[i])
	}
	for i := range q.all {
		a, p := &q.all[i], &q.parts[i]
		switch {
		case p.state == partDecided:
			a.Answer = limiter.Decided
		case denied && p.state == partOpen: // it need not be asked any more
			a.Outcome, a.Answer = limiter.Outcome{Admitted: true, Remaining: p.h.terms.limit.Burst}, limiter.Decided
		default:
			a.Outcome, a.Answer, away = limiter.Outcome{}, limiter.Away, true
		}
	}
	if away {
		q.s.figures.away.Add(1)
	}
	if denied {
		q.release(now)
	}
}

// release gives back all that was taken.
func (q *question) release(now bucket.Ticks) {
	for i := len(q.parts) - 1; i >= 0; i-- {
		if a, p := &q.all[i], &q.parts[i]; p.leased {
			back := q.s.leases.Refund(p.h.terms, a.Key, now, a.Outcome, a.Hits)
			q.s.giveBack(Op{Verb: Return, ID: a.Key.ID, Limit: &p.h.terms.limit, Hits: back, Grant: p.h.terms.grantOf(a.Outcome)})
		}
	}
	if b := q.bundle; b != nil && b.answered() {
		q.s.undo(b.ops, b.replies, b.err)
	}
}

// contended denies what others were faster for, again and again, for as long as a decision may take: they use all
// that this node may hold. The store does answer.
func (q *question) contended() {
	for i := range q.all {
		if p := &q.parts[i]; p.state == partOpen && p.h.leased && p.op == none {
			q.s.figures.contended.Add(1)
			q.all[i].Outcome, p.state = limiter.Outcome{RetryAfter: maxPause}, partDecided
		}
	}
}

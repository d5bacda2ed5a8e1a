package limiter

import "github.com/weir-limiter/weir/pkg/bucket"

// lease is what a result can give back: places among what is in flight and, if it was asked for, all that was
// taken. Most requests hold nothing, and few more than one grant.
type lease struct {
	first held
	more  []held
}

// held is one grant. Its rule is nil if there is none.
type held struct {
	rule    *Rule
	key     Key
	grant   uint64
	found   [2]bucket.Ticks
	hits    uint64
	standIn standIn // that granted it, while the store was away
	local   bool    // that is so, or it is nothing that nodes share
}

// hold keeps what a query may give back of a decision that was allowed.
func (le *lease) hold(charges []charge, query int, q *Query) {
	for i := range charges {
		c := &charges[i]
		// Who waits behind a place in a queue was told when to go on: to give it away again would send two at once.
		refundable := q.Refundable && c.outcome.Delay == 0
		if !c.taken || c.query != query || !c.rule.releases && !refundable {
			continue
		}
		if c.answer == Away && c.standIn == standInNone {
			continue // nobody's bucket was charged
		}
		h := held{c.rule, c.key(), c.outcome.Grant, c.outcome.Found, c.hits, c.standIn, c.rule.shared == nil || c.answer == Away}
		if le.first.rule == nil {
			le.first = h
		} else {
			le.more = append(le.more, h) // a second one: rare enough to ask for memory
		}
	}
}

// each calls do for every grant.
func (le *lease) each(do func(h *held)) {
	if le.first.rule == nil {
		return
	}
	do(&le.first)
	for i := range le.more {
		do(&le.more[i])
	}
}

// releasing are the grants that last until they are given back.
func (le *lease) releasing() (all []held) {
	le.each(func(h *held) {
		if h.rule.releases {
			all = append(all, *h)
		}
	})
	return all
}

// Releases tells whether a result holds something until it is released: a place among the requests in
// flight.
func (r *Result) Releases() bool { return r.lease.releasing() != nil }

// Release ends the request that a result is of, as far as policies count what is in flight. Later calls for
// the same result, and for one that holds nothing, do nothing; copies of a result are not the same.
func (l *Limiter) Release(r *Result) {
	if r.lease.first.rule == nil {
		return
	}
	now := l.now()
	r.lease.each(func(h *held) {
		if h.rule.releases {
			l.giveBack(h, now)
		}
	})
	r.lease = lease{}
}

// Refund gives back what the query of a result was charged, for what was not done after all. The query must
// have been [Query].Refundable. It is called instead of Release, and once. Counters of decisions keep what they
// counted, and a place in the queue of a leaky bucket passes by unused.
func (l *Limiter) Refund(r *Result) {
	now := l.now()
	r.lease.each(func(h *held) { l.giveBack(h, now) })
	r.lease = lease{}
}

func (l *Limiter) giveBack(h *held, now Instant) {
	o := Outcome{Admitted: true, Grant: h.grant, Found: h.found}
	if !h.local {
		h.rule.shared.Refund(h.key, now, o, h.hits)
		return
	}
	algorithm := h.rule.algorithm
	if h.standIn == standInShare {
		algorithm = h.rule.share(l)
	}
	algorithm.Refund(Bucket{l.table, h.key.Hash}, now, o, h.hits)
}

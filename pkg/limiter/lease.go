package limiter

// lease is what a result holds until it is released: places among what is in flight. Most requests hold
// none, and few more than one.
type lease struct {
	first held
	more  []held
}

// held is one grant to be given back. Its rule is nil if there is none.
type held struct {
	rule        *Rule
	hash, grant uint64
	hits        uint64
}

// hold keeps what has to be released of a decision that was allowed.
func (le *lease) hold(charges []charge, query int) {
	for i := range charges {
		c := &charges[i]
		if !c.taken || !c.rule.releases || c.query != query {
			continue
		}
		h := held{c.rule, c.hash, c.outcome.Grant, c.hits}
		if le.first.rule == nil {
			le.first = h
		} else {
			le.more = append(le.more, h) // a second policy of what is in flight: rare enough to ask for memory
		}
	}
}

func (le *lease) all() []held {
	if le.first.rule == nil {
		return nil
	}
	return append([]held{le.first}, le.more...)
}

// Releases tells whether a result holds something until it is released: a place among the requests in
// flight.
func (r *Result) Releases() bool { return r.lease.first.rule != nil }

// Release ends the request that a result is of, as far as policies count what is in flight. Later calls for
// the same result, and for one that holds nothing, do nothing; copies of a result are not the same.
func (l *Limiter) Release(r *Result) {
	if r.lease.first.rule == nil {
		return
	}
	l.giveBack(r.lease.all(), l.now())
	r.lease = lease{}
}

func (l *Limiter) giveBack(holds []held, now Instant) {
	for _, h := range holds {
		h.rule.algorithm.Refund(Bucket{l.table, h.hash}, now, Outcome{Admitted: true, Grant: h.grant}, h.hits)
	}
}

package ratesync

import (
	"errors"

	"github.com/weir-limiter/weir/pkg/bucket"
)

const (
	evenShare  = 0.2 // of what there is, that goes to all nodes alike
	forgetting = 0.5 // of what was used, from report to report
	caution    = 2   // times what the others used is kept for them, at most
)

// PolicyOf is the policy that the i-th operation of the round is about.
func (r *Reconciler[S]) PolicyOf(i int) *ReconciledPolicy { return r.sources[r.planOf[i]].src.Policy }

// Apply ends a round with the replies to what Plan returned.
func (r *Reconciler[S]) Apply(now bucket.Ticks, replies []Reply) {
	for k := range min(len(replies), len(r.planOf)) {
		t, reply := &r.sources[r.planOf[k]], &replies[k]
		if errors.Is(reply.Err, ErrState) {
			// This node goes on by what it knows; the operator hears of it.
			r.stats.Lost++
			t.flags = t.flags&^(isPending|isKnown) | isRestoring
			t.sent = 0
			continue
		} else if reply.Err != nil {
			continue
		}
		tat, found := r.read(t, now)
		r.hear(t, reply)
		if found {
			r.merge(t, tat, now)
		}
	}
	r.ops, r.planOf = r.ops[:0], r.planOf[:0]
}

// Fail ends a round of which it is not known which reports were made. They are made again in the next one.
func (r *Reconciler[S]) Fail() {
	r.ops, r.planOf = r.ops[:0], r.planOf[:0]
}

// hear takes up what the store says of a source.
func (r *Reconciler[S]) hear(t *tracked[S], reply *Reply) {
	l := &t.src.Policy.Bucket
	full := min(ticksOf(reply.Full), l.Depth)
	full -= min(full, r.mostCredit(t)) // the store is told of an interval's use at its end
	own := costOf(l, t.sent)
	var others bucket.Ticks
	switch {
	case t.flags&isKnown == 0:
		// The first answer tells no more than what all owe; or one after a time without any.
		others = full - min(full, t.owed())
		t.flags &^= isRestoring
	case reply.Total < t.total+t.sent:
		// The store lost its data. This node did not, and tells what all owe, of other buckets too; or has just done so.
		if t.flags ^= isRestoring; t.flags&isRestoring != 0 {
			r.stats.Lost++
			r.lost = true
		}
	default:
		t.flags &^= isRestoring
		if n := reply.Total - t.total; n > t.sent {
			others = costOf(l, n-t.sent)
			t.balance = min(t.balance+int64(others), int64(r.most(t)))
		}
	}
	t.balance = max(t.balance, int64(full))
	t.heard = t.at
	t.total = reply.Total
	t.flags = t.flags&^isPending | isKnown
	t.sent = 0
	t.flags &^= isElsewhere
	if others > 0 {
		t.flags |= isElsewhere
	}
	if own+others > 0 {
		t.own = t.own*forgetting + float32(own)
		t.else_ = t.else_*forgetting + float32(others)
	}
	if t.owed() < l.Depth+r.interval {
		// Not while all are denied: that nothing is used then says nothing about what will be.
		t.others -= t.others / 8
	}
	t.others = max(t.others, others)
}

// weight is this node's part of what the cluster may admit.
func (r *Reconciler[S]) weight(t *tracked[S]) float64 {
	even := 1 / float64(r.nodes)
	if all := float64(t.own) + float64(t.else_); all > 0 {
		return (1-evenShare)*float64(t.own)/all + evenShare*even
	}
	return even
}

// merge charges the entry for what is owed, and for what is kept for the other nodes until the next round.
func (r *Reconciler[S]) merge(t *tracked[S], tat bucket.Ticks, now bucket.Ticks) {
	l := &t.src.Policy.Bucket
	rest := r.interval - min(r.interval, bucket.Debt(now, r.planned)) // until the next round
	ahead := t.owed() + r.unheard(t)
	if room := l.Depth + rest; room > ahead {
		room -= ahead
		kept := bucket.Ticks((1 - r.weight(t)) * float64(room))
		if t.others < owedMax/caution {
			kept = min(kept, caution*t.others)
		}
		ahead += room - r.packets(t, room-kept, room, rest)
	}
	ahead = min(ahead, l.Depth+bucket.AdjustSlack)
	r.adjust(t, now, int64(ahead)-int64(bucket.Debt(tat, now)))
}

// unheard is what the others likely used since the store last answered, up to the limit's rate, but for the last round: of
// that nobody could have heard.
func (r *Reconciler[S]) unheard(t *tracked[S]) bucket.Ticks {
	since := bucket.Debt(t.at, t.heard)
	rounds := since / r.interval
	if rounds <= 1 || t.others >= owedMax/(rounds+1) {
		return 0
	}
	return min(since-r.interval, t.others*(rounds-1))
}

// packets makes more of a part that is less than a packet, sometimes, else nothing. As the bucket fills by itself, at the
// whole rate, one packet now means what there will be until the next round as well: too much, which the nodes hear of,
// and so give less often. Who was given it keeps it until it is used.
func (r *Reconciler[S]) packets(t *tracked[S], mine, room, rest bucket.Ticks) bucket.Ticks {
	one := costOf(&t.src.Policy.Bucket, t.src.Policy.Quantum)
	if mine >= one {
		return mine
	}
	if t.flags&isLucky == 0 && (room < one || r.draw()*float64(one) >= float64(mine)) {
		return 0
	}
	t.flags |= isLucky
	return min(room, one+rest)
}

// Away is a round without the store. Sources are then limited by this node alone: to the whole limit, or under
// on_store_failure share to its part, as if all the others admitted the same. When the store is back the reports tell what
// each source owes here, a full bucket at the most, instead of what it used in all that time: what is older than a refill
// is forgotten.
func (r *Reconciler[S]) Away(now bucket.Ticks, nodes int) {
	r.begin(now, nodes)
	first := !r.away
	r.away = true
	for i := 0; i < len(r.sources); {
		t := &r.sources[i]
		tat, found := r.read(t, now)
		t.flags = t.flags&^(isPending|isKnown|isElsewhere) | isRestoring
		t.sent, t.spent = 0, 0
		switch {
		case r.done(t, tat, found, now):
			r.drop(i)
			continue
		case found && t.src.Policy.Share:
			t.own, t.else_, t.others = 0, 0, owedMax
			r.merge(t, tat, now)
		case found && first:
			r.adjust(t, now, int64(t.owed())-int64(bucket.Debt(tat, now)))
		}
		i++
	}
	r.stats.Deferred = 0
}

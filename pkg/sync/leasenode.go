package ratesync

import (
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// SetBeat says when the last heartbeat was sent that the store took. If the one before is too old, the others have counted this
// node as dead: what it held is void, and it is a newcomer, which leases nothing until its second heartbeat, as the others may not
// know of it before.
func (l *Leases) SetBeat(sent bucket.Ticks) {
	if !l.fresh(sent) {
		l.Void()
	}
	l.good.Store(uint64(sent + ticksOf(LeaseLife)))
	l.beats.Add(1)
}

// shift moves the last heartbeat: the clock that it was told by was found to be so much behind.
func (l *Leases) shift(by bucket.Ticks) {
	if good := l.good.Load(); good != 0 {
		l.good.CompareAndSwap(good, good+uint64(by))
	}
}

// SetNodes says how many nodes there are. What this one holds above its share of a bucket is dropped.
func (l *Leases) SetNodes(n int) {
	n = max(n, 1)
	if was := l.nodes.Swap(int64(n)); int64(n) <= was {
		return
	}
	l.each(func(e *leaseEntry, s state, t *Terms) bool {
		if most := l.Cap(t); s.credit() > most {
			e.update(s.owner(), func(s state) state {
				l.dropped.Add(s.credit() - min(s.credit(), most))
				return s.with(min(s.credit(), most))
			})
		}
		return true
	})
}

// Nodes is how many there are.
func (l *Leases) Nodes() int { return int(l.nodes.Load()) }

// Void drops all leases: the store, or the other nodes, know nothing of them any more. What the store grants after it began is
// kept only if it was asked for afterwards.
func (l *Leases) Void() {
	l.beats.Store(0)
	l.era.Add(1) // before the sweep: an answer that comes during it sees one or the other
	l.each(func(e *leaseEntry, s state, _ *Terms) bool {
		e.update(s.owner(), func(s state) state {
			l.dropped.Add(s.credit())
			return s.with(0) &^ (flagUnknown | flagLow)
		})
		e.deny.Store(0)
		return true
	})
}

// each calls do for the entries that somebody has, until it says false.
func (l *Leases) each(do func(*leaseEntry, state, *Terms) bool) {
	for i := range l.table.entries {
		e := &l.table.entries[i]
		s := e.load()
		t := l.terms.at(s.terms())
		if t == nil {
			continue
		}
		if !do(e, s, t) {
			return
		}
	}
}

// Debt is what a bucket owes the store.
type Debt struct {
	Op    Op
	debt  bucket.Ticks
	terms *Terms
	entry *leaseEntry
	owner state
}

// Owed takes the debts out, one by one, until yield says false. One that could not be reported goes back by [Leases.Owe]. If the
// store lost its data it is told, too, what buckets owed as far as this node knows: every node's word may be the last.
func (l *Leases) Owed(now bucket.Ticks, lost bool, yield func(Debt) bool) {
	l.each(func(e *leaseEntry, s state, t *Terms) bool {
		id, known := e.name(), bucket.Ticks(0)
		if lost && !t.windowed {
			known = min(bucket.Debt(bucket.Ticks(e.full.Load()), now), t.bucket.Depth)
		}
		debt := bucket.Debt(bucket.Ticks(e.debt.Load()), now)
		if debt == 0 && known == 0 {
			return true
		}
		debt = min(bucket.Debt(bucket.Ticks(e.debt.Swap(0)), now), t.bucket.Depth)
		if e.load().owner() != s.owner() {
			return true // taken by another bucket meanwhile
		}
		op := reportOf(t, id, t.owed(debt))
		if op.Verb == Report {
			op.Seq = l.nextSeq()
			if known > 0 {
				op.Want = t.owed(min(known+debt, t.bucket.Depth))
			}
		}
		return yield(Debt{Op: op, debt: debt, terms: t, entry: e, owner: s.owner()})
	})
}

// owed is a debt in tokens.
func (t *Terms) owed(debt bucket.Ticks) uint64 { return t.limit.Burst - t.bucket.Tokens(debt, 0) }

// reportOf takes hits or as many as there are. In a window that is a lease which nobody uses.
func reportOf(t *Terms, id ID, hits uint64) Op {
	if t.windowed {
		return Op{Verb: Lease, ID: id, Limit: &t.limit, Hits: 1, Want: max(hits, 1)}
	}
	return Op{Verb: Report, ID: id, Limit: &t.limit, Hits: hits}
}

// Owe puts back a debt that Owed took out.
func (l *Leases) Owe(d Debt, now bucket.Ticks) {
	l.owe(d.terms, d.entry, d.owner, now, d.debt)
}

// Unused takes the leases out that were not used, one by one, until yield says false.
func (l *Leases) Unused(now bucket.Ticks, yield func(Op) bool) {
	l.each(func(e *leaseEntry, s state, t *Terms) bool {
		if s.credit() == 0 {
			return true
		}
		id, full, unused := e.name(), e.full.Load(), uint64(0)
		e.update(s.owner(), func(s state) state {
			unused = l.credit(t, e, s, now)
			return s.with(0)
		})
		if unused == 0 {
			return true
		}
		op := Op{Verb: Return, ID: id, Limit: &t.limit, Hits: unused}
		if t.windowed {
			op.Grant = t.grantOf(limiter.Outcome{Found: [2]bucket.Ticks{windowEnd(full)}})
		}
		return yield(op)
	})
}

package ratesync

import (
	"math"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// LeasePlan is a lease that the store is to be asked for.
type LeasePlan struct {
	Op    Op
	terms *Terms
	entry *leaseEntry
	owner state
	era   uint32
	sent  bucket.Ticks
}

// Plan says what to ask the store for, if a bucket's lease has to do for hits, 0 in the background, and for those of all who
// wait. False: for nothing. They are there, or known not to be, or on their way; or no lease may hold them, and they are to be taken as strict
// ones are. Apply has to be called with every plan.
func (l *Leases) Plan(t *Terms, k limiter.Key, now bucket.Ticks, hits, waiting uint64) (p LeasePlan, ok bool) {
	if !l.Splits(t, now, max(hits, 1)) {
		return p, false
	}
	e, s := l.table.find(&k, t.index)
	if e == nil {
		e, s = l.claim(t, k, now)
	}
	owner := s.owner()
	if t.windowed {
		l.dropEnded(e, owner, now)
	}
	if !e.fly(owner) {
		return p, false
	}
	credit := e.load().credit()
	if deny := e.deny.Load(); hits == 0 && bucket.Debt(bucket.Ticks(deny), now) > 0 || hits > 0 && hits <= credit {
		e.land(owner)
		return p, false
	}
	demand := e.wanted(credit, now, waiting)
	e.demand.Store(uint32(min(demand, math.MaxUint32)))
	need := max(hits-min(hits, credit), 1)
	most := l.Cap(t)
	want := min(max(demand, waiting)-min(max(demand, waiting), credit), most-min(most, credit))
	if e.seq.Load() != 0 {
		// Who came again comes again, most likely. A lease by demand alone stays small where callers wait for it, and so ask less.
		want = max(want, min(leaseLeast, most-min(most, credit)))
	}
	if want = max(want, need); credit+want > most {
		e.land(owner)
		return p, false
	}
	p = LeasePlan{terms: t, entry: e, owner: owner, era: l.era.Load(), sent: now}
	p.Op = Op{Verb: Lease, ID: k.ID, Limit: &t.limit, Hits: need, Want: want, Seq: l.number(e, now)}
	return p, true
}

// lostFor is for how long a lease is worth asking for again.
const lostFor = uint32(LeaseLife / coarseUnit)

// number is that of the next lease. One whose answer was lost a moment ago is asked for again: the store knows what it
// granted.
func (l *Leases) number(e *leaseEntry, now bucket.Ticks) uint32 {
	if e.load()&flagUnknown != 0 && e.seq.Load() != 0 && coarse(now)-e.at.Load() < lostFor {
		return e.seq.Load()
	}
	seq := l.nextSeq()
	e.seq.Store(seq)
	return seq
}

// nextSeq counts leases and reports of all buckets, so that an entry that was taken and comes back repeats none.
func (l *Leases) nextSeq() uint32 {
	if seq := l.seq.Add(1); seq != 0 {
		return seq
	}
	return l.seq.Add(1)
}

// fly marks that a lease is on its way, unless one is.
func (e *leaseEntry) fly(owner state) bool {
	free := false
	return e.update(owner, func(s state) state { free = s&flagFlight == 0; return s | flagFlight }) && free
}

func (e *leaseEntry) land(owner state) {
	e.update(owner, func(s state) state { return s &^ (flagFlight | flagLow) })
}

// dropEnded forgets the credit of a window that is over.
func (l *Leases) dropEnded(e *leaseEntry, owner state, now bucket.Ticks) {
	if left, _ := windowLeft(e.full.Load(), now); left == 0 {
		e.update(owner, func(s state) state { return s.with(0) &^ flagUnknown })
	}
}

// wanted is how many tokens will do for [leaseAhead], going by how fast the last ones went.
func (e *leaseEntry) wanted(credit uint64, now bucket.Ticks, waiting uint64) uint64 {
	if e.seq.Load() == 0 {
		return max(waiting, 1)
	}
	const ahead = uint64(leaseAhead / coarseUnit)
	elapsed := uint64(max(int32(coarse(now)-e.at.Load()), 1)) // negative: another worker's answer came after now
	size := uint64(e.size.Load())
	spent := size - min(size, credit) + min(waiting, math.MaxUint32)
	was := max(uint64(e.demand.Load()), 1)
	least := uint64(1)
	if elapsed < 2*ahead {
		least = max(was/2, 1)
	}
	return min(max(spent*ahead/elapsed, least), was*leaseGrowth)
}

// Apply takes up what the store answered to a plan, or that no answer came. It returns what of it may not be kept, and
// is to be given back to the store.
func (l *Leases) Apply(p *LeasePlan, r Reply, err error, now bucket.Ticks) (back uint64) {
	t, e := p.terms, p.entry
	switch {
	case err != nil:
		e.at.Store(coarse(now))
		e.update(p.owner, func(s state) state { return s&^(flagFlight|flagLow) | flagUnknown })
		return 0
	case r.Err != nil || !sane(t, &r):
		e.land(p.owner)
		return 0
	}
	end := p.sent + ticksOf(r.Good)
	if t.windowed && r.Granted > 0 {
		t.saw(r.Grant, end)
	}
	granted := r.Granted
	switch {
	case t.windowed && bucket.Debt(windowEnd(packWindow(end, 0)), now) == 0:
		granted = 0 // the window is over already
	case l.era.Load() != p.era || !l.fresh(now):
		granted, back = 0, granted
	}
	if e.load().owner() != p.owner {
		return granted + back // another bucket has the entry
	}
	if t.windowed && int64(end-windowEnd(e.full.Load())) > int64(t.bucket.Depth/2) {
		e.update(p.owner, func(s state) state { return s.with(0) }) // it was of the window before
	}
	e.learn(t, &r, end, p.Op.Want, now)
	most, keep := l.Cap(t), uint64(0)
	if !e.update(p.owner, func(s state) state {
		keep = min(granted, most-min(most, s.credit()))
		e.size.Store(uint32(s.credit() + keep))
		return s.with(s.credit()+keep) &^ (flagFlight | flagLow | flagUnknown)
	}) {
		keep = 0
	}
	if l.era.Load() != p.era {
		e.update(p.owner, func(s state) state { return s.with(0) }) // the sweep may have gone by before
	}
	e.at.Store(coarse(now))
	return back + granted - keep
}

// learn notes what an answer tells of the store's bucket.
func (e *leaseEntry) learn(t *Terms, r *Reply, end bucket.Ticks, want uint64, now bucket.Ticks) {
	if t.windowed {
		e.full.Store(packWindow(end, r.Left))
	} else {
		e.full.Store(uint64(now + min(ticksOf(r.Full), t.bucket.Depth)))
	}
	if r.Granted >= want {
		e.deny.Store(0)
		return
	}
	wait := t.pause
	if r.Granted == 0 {
		wait = max(wait, min(ticksOf(r.Wait), t.longest))
	}
	e.deny.Store(packDenial(now+wait, r.Left))
}

// sane tells whether an answer is one that a store can give.
func sane(t *Terms, r *Reply) bool {
	return r.Granted <= t.limit.Burst && r.Left <= t.limit.Burst && r.Full >= 0 && r.Wait >= 0 && r.Delay >= 0 && r.Good >= 0
}

// Note remembers a denial of hits that were asked for without a lease, so that the next are denied here.
func (l *Leases) Note(t *Terms, k limiter.Key, now bucket.Ticks, r Reply) {
	if !t.splits || t.index == 0 || r.Admitted || r.Err != nil || r.Wait == Never || !sane(t, &r) {
		return
	}
	e, _ := l.table.find(&k, t.index)
	if e == nil {
		e, _ = l.claim(t, k, now)
	}
	if !t.windowed {
		e.full.Store(uint64(now + min(ticksOf(r.Full), t.bucket.Depth)))
	}
	wait := max(t.pause, min(ticksOf(r.Wait), t.longest))
	e.at.Store(coarse(now))
	e.deny.Store(packDenial(now+wait, r.Left))
}

// Forget drops what this node knows of a bucket that somebody made a full one. Its debts go too.
func (l *Leases) Forget(t *Terms, k limiter.Key) {
	e, s := l.table.find(&k, t.index)
	if e == nil || t.index == 0 {
		return
	}
	e.update(s.owner(), func(s state) state { return s.with(0) })
	e.deny.Store(0)
	e.debt.Store(0)
	e.full.Store(0)
}

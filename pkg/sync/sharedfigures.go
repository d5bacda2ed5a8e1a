package ratesync

import "sync/atomic"

// Figures count what a [Sharer] did.
type Figures struct {
	Asks      uint64 // questions that limits could not decide by themselves
	Waits     uint64 // times that one waited for the store
	Away      uint64 // questions that the store did not decide
	Busy      uint64 // of these and of refills: too many were waiting
	Contended uint64 // questions denied because others of this node were faster, each time
	Expired   uint64 // dropped unsent: nobody waited any more
	Late      uint64 // answers that nobody waited for any more
	Refills   uint64 // leases asked for before the last was used up
	Calls     uint64 // to the store
	Ops       uint64 // operations in them
	Failed    uint64 // calls without an answer
	Broken    uint64 // buckets under whose key the store has something else
	Returned  uint64 // tokens given back
	Dropped   uint64 // tokens neither used nor given back
	Reported  uint64 // buckets' debts told on recovery
	Forgotten uint64 // debts that the table had no room for
}

// sharerCounts are those, as they grow. A decision that needs no store touches none.
type sharerCounts struct {
	asks, waits, away, busy, contended, expired, late, refills atomic.Uint64
	calls, ops, failed, broken, returned, dropped, reported    atomic.Uint64
}

// Figures are the counts so far.
func (s *Sharer) Figures() Figures {
	f := &s.figures
	return Figures{
		Asks: f.asks.Load(), Waits: f.waits.Load(), Away: f.away.Load(), Busy: f.busy.Load(), Contended: f.contended.Load(),
		Expired: f.expired.Load(), Late: f.late.Load(), Refills: f.refills.Load(), Calls: f.calls.Load(), Ops: f.ops.Load(),
		Failed: f.failed.Load(), Broken: f.broken.Load(), Returned: f.returned.Load(), Reported: f.reported.Load(),
		Dropped: f.dropped.Load() + s.leases.dropped.Load(), Forgotten: s.leases.forgotten.Load(),
	}
}

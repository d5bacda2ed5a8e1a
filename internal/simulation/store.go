package simulation

import (
	"time"

	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// Store does operations at an instant of its own clock: what [ratesync.Executor] says of one call.
type Store interface {
	Do(now time.Duration, node string, ops []ratesync.Op, replies []ratesync.Reply)
	// Wipe loses all data.
	Wipe()
}

// Ledger is the least that a store has to do for reports, done plainly: it is what the nodes' code is measured by, and
// what [Mutation] breaks.
type Ledger struct {
	Mutation Mutation
	Shallow  bool // knows no debt beyond an empty bucket, and no number of a report
	buckets  map[ratesync.ID]*account
}

type account struct {
	debt  float64 // tokens
	at    time.Duration
	total uint64
	seqs  map[string]uint32
}

// NewLedger makes an empty one.
func NewLedger() *Ledger { return &Ledger{buckets: map[ratesync.ID]*account{}} }

// Wipe loses all data.
func (s *Ledger) Wipe() { clear(s.buckets) }

// Do does reports.
func (s *Ledger) Do(now time.Duration, node string, ops []ratesync.Op, replies []ratesync.Reply) {
	for i := range ops {
		replies[i] = s.report(now, node, &ops[i])
	}
}

func (s *Ledger) report(now time.Duration, node string, op *ratesync.Op) ratesync.Reply {
	a := s.buckets[op.ID]
	perToken := float64(op.Limit.Window) / float64(op.Limit.Limit)
	if a != nil && now > a.at+time.Duration(a.debt*perToken)+10*time.Second {
		a = nil // it expired
	}
	if a == nil {
		a = &account{at: now, seqs: map[string]uint32{}}
		s.buckets[op.ID] = a
	}
	if elapsed := float64(now - a.at); elapsed > 0 {
		a.debt = max(0, a.debt-elapsed/perToken)
	}
	a.at = now
	if s.Shallow || op.Seq == 0 || a.seqs[node] != op.Seq {
		a.seqs[node] = op.Seq
		a.debt += float64(op.Hits)
		a.total += op.Hits
	}
	most := max(op.Limit.Burst, op.Back)
	if s.Shallow {
		most = op.Limit.Burst
	}
	a.debt = min(max(a.debt, float64(op.Want)), float64(most))
	r := ratesync.Reply{Total: a.total, Full: time.Duration(a.debt * perToken)}
	switch s.Mutation {
	case NoPayback:
		r.Total, r.Full = 0, min(r.Full, time.Duration(float64(op.Limit.Burst)*perToken))
	case DeafStore:
		r.Total, r.Full = uint64(op.Hits), 0
	}
	return r
}

// Mutation is a fault of the code, not of the world: what a check that passes it would not have seen.
type Mutation uint8

const (
	Sound     Mutation = iota
	DeafStore          // a node hears nothing of the others
	NoPayback          // debts end at an empty bucket, and nothing but the store's answer counts
	Unmerged           // nodes do not charge themselves for the others' use
	Recount            // nodes do not report every second round's use
)

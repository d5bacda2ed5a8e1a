package ratesync

import (
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	// DefaultLeaseShare is the part of a burst that all nodes together may hold in leases.
	DefaultLeaseShare = 0.1
	// LeaseLife is how old a node's last heartbeat may be: then the others count it as dead, and grant each other what it
	// held.
	LeaseLife = 3 * time.Second
	// leaseAhead is for how long a lease shall do.
	leaseAhead = 500 * time.Millisecond
	// leaseLeast is how much is leased at least, from the second time on, if the cap lets it: 16 calls for 1000 checks.
	leaseLeast = 64
	// maxPause is how long a drained bucket is left alone at most, though a token is there sooner: the next answer brings
	// several then.
	maxPause = 10 * time.Millisecond
	// leaseGrowth is how much more than the last time a lease may ask for: a burst of two says little of demand.
	leaseGrowth = 8
	// spendTries is how often a spender that lost its swap to others tries again, before it asks.
	spendTries = 64
)

// LeaseOptions are what [Leases] need to know.
type LeaseOptions struct {
	Entries int     // of the table, 64 bytes each; rounded up to a power of two
	Share   float64 // of a burst, over 0, at most 1: see [DefaultLeaseShare]
	Seq     uint32  // where counting of leases begins: unlike the last time that a node of this name ran
}

// Leases are tokens that this node has debited in the store and not used yet. They know of no clock and no connection: what
// to ask the store for, [Leases.Plan] says, and [Leases.Apply] is told what it answered.
//
// In any interval t all nodes together admit at most (1 + share) burst + rate * t: a token is debited before it is used, and
// no node holds more than share * burst / nodes. So a node that dies, an answer that is lost and an entry that has to go
// only make it less.
type Leases struct {
	table leaseTable
	share float64
	good  atomic.Uint64 // until when the last heartbeat is good
	nodes atomic.Int64
	beats atomic.Uint32 // in a row
	era   atomic.Uint32 // counts how often all leases became void
	seq   atomic.Uint32

	terms termsList

	dropped, forgotten atomic.Uint64
}

// NewLeases makes an empty table of them.
func NewLeases(o LeaseOptions) *Leases {
	l := &Leases{table: newLeaseTable(max(o.Entries, ways)), share: o.Share}
	l.seq.Store(o.Seq)
	l.nodes.Store(1)
	l.terms.all = map[Limit]*Terms{}
	return l
}

func ticksOf(d time.Duration) bucket.Ticks {
	return bucket.AtNanoseconds(uint64(min(max(d, 0), bucket.DepthMax.Duration())))
}

func roundUp(t bucket.Ticks) time.Duration { return (t + 1<<8 - 1).Duration() }

// Cap is how many tokens of a bucket this node may hold now.
func (l *Leases) Cap(t *Terms) uint64 {
	if !t.splits || t.index == 0 {
		return 0
	}
	return uint64(t.most / float64(l.nodes.Load()))
}

// Splits tells whether hits of a bucket may be leased now. If not, each is asked for: their burst is too small for so many
// nodes, or this one is not known to the others yet.
func (l *Leases) Splits(t *Terms, now bucket.Ticks, hits uint64) bool {
	return hits <= l.Cap(t) && l.beats.Load() >= 2 && l.fresh(now)
}

// fresh tells whether the others still know this node.
func (l *Leases) fresh(now bucket.Ticks) bool {
	return bucket.Debt(bucket.Ticks(l.good.Load()), now) > 0
}

// credit is what may be spent of an entry.
func (l *Leases) credit(t *Terms, e *leaseEntry, s state, now bucket.Ticks) uint64 {
	c := s.credit()
	if c == 0 || !l.fresh(now) {
		return 0
	}
	if t.windowed {
		if left, _ := windowLeft(e.full.Load(), now); left == 0 {
			return 0
		}
	}
	return c
}

// Take spends hits of what this node holds. Low tells, once a lease, that it is time for the next: nobody waits for it.
func (l *Leases) Take(t *Terms, k limiter.Key, now bucket.Ticks, hits uint64) (o limiter.Outcome, a limiter.Answer, low bool) {
	if hits > t.limit.Burst {
		return l.tooMany(t, k, now), limiter.Decided, false
	}
	e, s := l.table.find(&k, t.index)
	for tries := 0; e != nil && tries < spendTries; tries++ {
		credit := l.credit(t, e, s, now)
		if credit < hits {
			o, a = l.denied(t, e, now, hits, credit)
			return o, a, false
		}
		next := s - state(hits)<<creditShift
		if s&(flagLow|flagFlight) == 0 && runsLow(e, credit-hits) && bucket.Debt(bucket.Ticks(e.deny.Load()), now) == 0 {
			next, low = next|flagLow, true
		}
		if e.swap(s, next) {
			return l.outcome(t, e, now, credit-hits), limiter.Decided, low
		}
		low = false
		e, s = l.table.find(&k, t.index)
	}
	return limiter.Outcome{}, limiter.Ask, false
}

// runsLow tells whether some 20 % are left: the number of the lease makes it 14 to 25, so that nodes don't ask in step. After
// a lease of one it does not: most of those who come once come no more.
func runsLow(e *leaseEntry, left uint64) bool {
	size := uint64(e.size.Load())
	return size > 1 && left*uint64(4+e.seq.Load()%4) <= size
}

// Peek says what Take would.
func (l *Leases) Peek(t *Terms, k limiter.Key, now bucket.Ticks, hits uint64) (limiter.Outcome, limiter.Answer) {
	if hits > t.limit.Burst {
		return l.tooMany(t, k, now), limiter.Decided
	}
	e, s := l.table.find(&k, t.index)
	if e == nil {
		return limiter.Outcome{}, limiter.Ask
	}
	credit := l.credit(t, e, s, now)
	if credit < hits {
		return l.denied(t, e, now, hits, credit)
	}
	return l.outcome(t, e, now, credit), limiter.Decided
}

// tooMany denies more hits than a full bucket holds.
func (l *Leases) tooMany(t *Terms, k limiter.Key, now bucket.Ticks) limiter.Outcome {
	o := limiter.Outcome{Remaining: t.limit.Burst}
	if e, s := l.table.find(&k, t.index); e != nil {
		o = l.outcome(t, e, now, l.credit(t, e, s, now))
	}
	o.Admitted, o.RetryAfter = false, limiter.Never
	return o
}

// outcome is that of admitted hits, which leave so much credit. What is left in the store, others may have used by now.
func (l *Leases) outcome(t *Terms, e *leaseEntry, now bucket.Ticks, credit uint64) limiter.Outcome {
	full := e.full.Load()
	if t.windowed {
		reset, left := windowLeft(full, now)
		return limiter.Outcome{
			Admitted: true, Remaining: min(credit+left, t.limit.Burst), ResetAfter: reset.Duration(),
			Found: [2]bucket.Ticks{windowEnd(full)},
		}
	}
	tat := bucket.Ticks(full)
	return limiter.Outcome{
		Admitted:   true,
		Remaining:  min(credit+t.bucket.Tokens(tat, now), t.limit.Burst),
		ResetAfter: min(roundUp(bucket.Debt(tat, now)), t.longest.Duration()),
	}
}

// denied is the outcome of more hits than there is credit for, if it is known that the store has none either.
func (l *Leases) denied(t *Terms, e *leaseEntry, now bucket.Ticks, hits, credit uint64) (limiter.Outcome, limiter.Answer) {
	deny := e.deny.Load()
	wait := bucket.Debt(bucket.Ticks(deny), now)
	if wait == 0 || wait > t.longest+ticksOf(time.Second) || hits <= deny&denyHits || e.doubtful(wait, now) {
		return limiter.Outcome{}, limiter.Ask
	}
	o := l.outcome(t, e, now, credit)
	if !t.windowed {
		wait = max(wait, t.bucket.Wait(bucket.Ticks(e.full.Load()), now, hits-credit))
	}
	o.Admitted, o.Remaining, o.RetryAfter, o.Found = false, min(o.Remaining, hits-1), roundUp(wait), [2]bucket.Ticks{}
	o.ResetAfter = max(o.ResetAfter, o.RetryAfter)
	return o, limiter.Decided
}

// doubtful tells whether a denial is so old that the store is asked again, as somebody may have reset the bucket: after an
// eighth of the wait, but not before a second. A wait of a minute is some thirty questions, and not one for each request.
func (e *leaseEntry) doubtful(wait, now bucket.Ticks) bool {
	age := coarse(now) - e.at.Load()
	return age >= uint32(time.Second/coarseUnit) && uint64(age)*7 >= uint64(wait>>coarseShift)
}

// Refund takes back hits that were admitted, and returns those that the store has to hear of: it is more than this node may hold.
func (l *Leases) Refund(t *Terms, k limiter.Key, now bucket.Ticks, o limiter.Outcome, hits uint64) (back uint64) {
	switch {
	case t.windowed && o.Grant != 0:
		return hits // asked for without a lease: they are of a window by themselves
	case t.windowed && bucket.Debt(o.Found[0], now) == 0:
		return 0 // another window has begun: what is left of the last is gone
	}
	e, s := l.table.find(&k, t.index)
	if e == nil || !l.fresh(now) {
		return hits
	}
	if t.windowed {
		if left, _ := windowLeft(e.full.Load(), now); left == 0 {
			return hits // which were not of a lease
		}
	}
	back = hits
	most := l.Cap(t)
	e.update(s.owner(), func(s state) state {
		keep := min(hits, most-min(most, s.credit()))
		back = hits - keep
		return s.with(s.credit() + keep)
	})
	return back
}

// Spent notes hits that were admitted without the store, as a debt that decays as the store's would.
func (l *Leases) Spent(t *Terms, k limiter.Key, now bucket.Ticks, hits uint64) {
	if t.index == 0 || t.limit.Algorithm == policy.AlgorithmConcurrency || t.limit.Algorithm == policy.AlgorithmLeakyBucket {
		return // what is in flight ends by itself, and a queue is empty by the time that the store is back
	}
	e, s := l.table.find(&k, t.index)
	if e == nil {
		e, s = l.claim(t, k, now)
	}
	l.owe(t, e, s.owner(), now, t.bucket.Cost(min(hits, t.limit.Burst)))
}

func (l *Leases) owe(t *Terms, e *leaseEntry, owner state, now, cost bucket.Ticks) {
	for e.load().owner() == owner {
		old := e.debt.Load()
		debt := min(bucket.Debt(bucket.Ticks(old), now)+cost, t.bucket.Depth)
		if e.debt.CompareAndSwap(old, uint64(now+debt)) {
			return
		}
	}
	l.forgotten.Add(1)
}

// claim finds an entry for a bucket, or takes one for it.
func (l *Leases) claim(t *Terms, k limiter.Key, now bucket.Ticks) (*leaseEntry, state) {
	e, s, was := l.table.claim(&k, t.index, now)
	if was.debt {
		l.forgotten.Add(1)
	}
	l.dropped.Add(was.credit)
	return e, s
}

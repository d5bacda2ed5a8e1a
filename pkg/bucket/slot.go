package bucket

import (
	"math"
	"time"
)

const (
	// SlotCount is the number of slots that each CPU has.
	SlotCount = 512

	// leasePackets is SLOT_LEASE_PACKETS: how many packets beyond the present one a lease is for.
	leasePackets = 63

	// horizonMax is the longest that a denial is remembered: 64 ms.
	horizonMax = Ticks(64*time.Millisecond) << tickShift

	// fracShift is SLOT_FRAC_SHIFT: where a rate's id has its FracBits.
	fracShift = 58

	// leaseShare is which part of a burst all CPUs together may lease.
	leaseShare = 16
)

// Rate is a limit, and how slots may stand in for its bucket. Its layout is that of struct rate.
type Rate struct {
	Limit  Limit
	ID     uint64 // TokenTime and FracBits in one word
	Lease  uint32 // tokens that one CPU may hold at most
	Coarse uint32 // 1: jiffies may time a denial that is remembered
}

// NewRate says how slots on so many CPUs may stand in for buckets of a limit. jiffy is how long one takes.
//
// A CPU may lease burst / (16 CPUs) tokens, so that a source is admitted no more than (1 + 1/16) burst +
// rate * t in any interval t. Jiffies are used where a burst outlasts two of them, so that what a bucket
// gains while a denial is remembered too long is not lost.
func NewRate(l Limit, cpus int, jiffy time.Duration) Rate {
	r := Rate{
		Limit: l,
		ID:    uint64(l.FracBits)<<fracShift | l.TokenTime,
		Lease: uint32(min(l.Burst/(leaseShare*uint64(max(cpus, 1))), math.MaxUint32)),
	}
	if l.Depth.Duration() >= 2*jiffy {
		r.Coarse = 1
	}
	return r
}

// Clock is what the time is, by both clocks that the kernel's slots go by.
type Clock struct {
	Exact   Ticks
	Jiffies uint64        // counted by the timer interrupt
	Jiffy   time.Duration // how long one takes: 1 to 10 ms
}

// by is the clock that decides whether a remembered denial still holds.
func (c Clock) by(r *Rate) uint64 {
	if r.Coarse != 0 {
		return c.Jiffies
	}
	return uint64(c.Exact)
}

// after is the instant by that clock at which a wait will surely have passed, or nearly: of the present
// jiffy an unknown part has. It lies one jiffy beyond at most.
func (c Clock) after(r *Rate, wait Ticks) uint64 {
	if r.Coarse != 0 {
		return c.Jiffies + uint64(wait.Duration()/c.Jiffy) + 1
	}
	return uint64(c.Exact + wait)
}

// slot has the meaning, and the layout, of struct slot.
type slot struct {
	hash       uint64
	denyUntil  uint64 // by Clock.by
	rateID     uint64
	credit     uint32 // tokens
	denyTokens uint32
}

// Slots are one CPU's, before a table: slot.h says what they are for. The zero value is empty. They are the
// reference that the kernel's are compared with, and what user space has before tables of its own. They are not
// safe for concurrent use.
type Slots struct {
	Table *Table
	slots [SlotCount]slot
}

// SlotIndex is where a CPU looks for what it knows of the bucket that hash names.
func SlotIndex(hash uint64) uint32 { return uint32(hash >> 48 & (SlotCount - 1)) }

// Take takes tokens from the bucket that hash names, by the slot if that will do.
func (s *Slots) Take(hash uint64, r *Rate, now Clock, tokens uint64, evictDebt bool) Taken {
	flags, known := s.ask(hash, r, now, tokens)
	if known {
		return flags
	}
	return s.charge(hash, r, now, tokens, evictDebt)
}

// ask tells what the slot knows; false if it takes the table.
func (s *Slots) ask(hash uint64, r *Rate, now Clock, tokens uint64) (Taken, bool) {
	slot := &s.slots[SlotIndex(hash)]
	switch {
	case slot.hash != hash || slot.rateID != r.ID:
		return 0, false
	case uint64(slot.credit) >= tokens:
		slot.credit -= uint32(tokens)
		return Admitted, true
	case slot.denyUntil != 0 && slot.denies(now.by(r)) && tokens >= uint64(slot.denyTokens):
		return 0, true
	}
	return 0, false
}

// denies tells whether the horizon holds. One that is farther ahead than any that was ever set is from before
// the ticks wrapped.
func (s *slot) denies(now uint64) bool { return s.denyUntil-now-1 < uint64(2*horizonMax) }

// charge is charge_table of charge.h.
func (s *Slots) charge(hash uint64, r *Rate, now Clock, tokens uint64, evictDebt bool) Taken {
	if tokens > r.Limit.Burst {
		return 0
	}
	to := &s.slots[SlotIndex(hash)]
	mine := to.hash == hash && to.rateID == r.ID
	c := Charge{Cost: r.Limit.Cost(tokens), Tokens: uint32(tokens), EvictDebt: evictDebt}
	if mine {
		c.lease(r, to.credit)
	}
	took := s.Table.Charge(hash, &r.Limit, now.Exact, &c)
	if took&Admitted == 0 && c.Wait == 0 {
		return took
	}
	if !mine {
		if to.credit != 0 {
			s.Table.refund(to.hash, to.worth(), to.credit)
		}
		*to = slot{hash: hash, rateID: r.ID}
	}
	if took&Admitted == 0 {
		to.denyUntil, to.denyTokens = now.after(r, min(c.Wait, horizonMax)), uint32(tokens)
		return took
	}
	to.denyUntil, to.credit = 0, 0
	if c.TookExtra {
		to.credit = c.More
	}
	return took
}

// lease adds a lease to a charge, less what is left of the last one.
func (c *Charge) lease(r *Rate, left uint32) {
	c.More = min(r.Lease/max(c.Tokens, 1), leasePackets) * c.Tokens
	c.Extra = r.Limit.Cost(uint64(c.More))
	if left == 0 {
		return
	}
	c.Tokens -= left
	c.Cost = r.Limit.Cost(uint64(c.Tokens))
}

// worth is what the slot's credit cost its bucket.
func (s *slot) worth() Ticks {
	l := Limit{TokenTime: s.rateID & (1<<fracShift - 1), FracBits: uint32(s.rateID >> fracShift)}
	return l.Cost(uint64(s.credit))
}

// TakeNew is Take for a policy that caps first-seen sources: strangers is the rate of those, and
// strangersHash names their bucket. False if the source is one too many.
func (s *Slots) TakeNew(hash uint64, r *Rate, strangersHash uint64, strangers *Rate, now Clock, tokens uint64, evictDebt bool) (Taken, bool) {
	if flags, known := s.ask(hash, r, now, tokens); known {
		return flags, true
	}
	if !s.Table.Has(hash) && s.Take(strangersHash, strangers, now, 1, true)&Admitted == 0 {
		return 0, false
	}
	return s.charge(hash, r, now, tokens, evictDebt), true
}

// Refund gives back what Take took: to the slot while its lease has room, else to the table.
func (s *Slots) Refund(hash uint64, r *Rate, tokens uint64) {
	to := &s.slots[SlotIndex(hash)]
	if to.hash == hash && to.rateID == r.ID && uint64(to.credit)+tokens <= uint64(r.Lease) {
		to.credit += uint32(tokens)
		return
	}
	s.Table.refund(hash, r.Limit.Cost(tokens), uint32(tokens))
}

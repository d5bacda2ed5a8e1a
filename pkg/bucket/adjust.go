package bucket

import (
	"math/bits"
	"time"
)

// AdjustSlack is how far beyond a bucket's depth [Limit.Adjust] lets its debt grow: 0.54 s. What other nodes
// admitted while this one's bucket was empty is so paid back, and not forgotten. Half of what bucket.h
// cuts a debt at, so that a CPU that is late by as much does not cut it.
const AdjustSlack = skewMax / 2

// adjustTries is how often a swap is tried. Each loss means that the source was charged meanwhile, which is rare for
// one that owes: what is denied swaps nothing.
const adjustTries = 64

// Adjust is the TAT of a bucket that owes delta ticks more than its own charges made it owe, or less: what
// others admitted against the same limit, or did not after all. The debt stays between 0 and the depth and
// [AdjustSlack]; one that is beyond already, as by pacing, is not cut. applied is what became of delta.
func (l *Limit) Adjust(tat, now Ticks, delta int64) (next Ticks, applied int64) {
	debt := Debt(tat, now)
	if delta >= 0 {
		room := Ticks(0)
		if most := l.Depth + AdjustSlack; debt < most {
			room = most - debt
		}
		applied = int64(min(Ticks(delta), room))
	} else {
		applied = -int64(min(Ticks(-delta), debt)) // of the least int64 too, in two's complement
	}
	if applied == 0 {
		return tat, 0 // a TAT in the past says when the source was seen last
	}
	return now + Ticks(int64(debt)+applied), applied
}

// Adjust is [Limit.Adjust] of the bucket that hash names. False if it has no entry: then nothing is done, as a
// source that is not here takes nothing here. Nothing was applied either if every swap was lost.
func (t *Table) Adjust(hash uint64, l *Limit, now Ticks, delta int64) (applied int64, found bool) {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	for range adjustTries {
		e := find(set, fingerprint)
		if e == nil {
			return 0, false
		}
		tat := e.tat.Load()
		next, applied := l.Adjust(Ticks(tat), now, delta)
		if applied == 0 {
			return 0, true
		}
		if !e.tat.CompareAndSwap(tat, uint64(next)) {
			continue
		}
		if e.loadTag().fingerprint == fingerprint {
			return applied, true
		}
		e.tat.CompareAndSwap(uint64(next), tat) // claimed meanwhile: not for the newcomer, see table.h
		return 0, false
	}
	return 0, true
}

// ShareShift is the largest shift with 2^shift <= max(1, rate * interval / nodes): a source that uses its
// fair share of one node within an interval passes a multiple of 2^shift tokens. 0 to 31.
func (l *Limit) ShareShift(interval time.Duration, nodes int) uint8 {
	if interval <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(interval), 1<<(tickShift+l.FracBits))
	if hi >= l.TokenTime {
		return 31 // more than 2^64 tokens
	}
	tokens, _ := bits.Div64(hi, lo, l.TokenTime)
	share := max(tokens/uint64(max(nodes, 1)), 1)
	return uint8(min(bits.Len64(share)-1, 31))
}

// UsedSince is how many tokens an entry has given between two looks at its Used. It wraps at 2^32, may go
// back by what was refunded, and begins anew when the entry was given away and claimed again: then it is
// now. A count that went back by less than half is taken for refunds.
func UsedSince(before, now uint32) uint32 {
	switch more := int32(now - before); {
	case more >= 0:
		return uint32(more)
	case now > before/2:
		return 0
	}
	return now
}

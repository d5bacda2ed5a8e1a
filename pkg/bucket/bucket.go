package bucket

import "math/bits"

// Never is the wait of a request that costs more than a full bucket holds.
const Never = ^Ticks(0)

// Debt is how long a bucket with this TAT needs from now on to be full: 0 for a full one.
//
// A TAT in the past says no more than "full", which is also what makes clocks harmless that were
// read out of order on two CPUs. A TAT farther ahead than any limit allows is from before the
// counter wrapped, and so in the past as well.
func Debt(tat, now Ticks) Ticks {
	ahead := int64(tat - now)
	if ahead <= 0 || Ticks(ahead) > DepthMax+skewMax {
		return 0
	}
	return Ticks(ahead)
}

// Cost is what tokens take to come back. It is meant for tokens <= l.Burst, where nothing overflows.
func (l *Limit) Cost(tokens uint64) Ticks {
	return Ticks(tokens * l.TokenTime >> l.FracBits)
}

// Charge decides whether what costs so many ticks may pass at now, and returns the TAT that the bucket
// has afterwards: unchanged on a denial, unless it owes more than a full burst. That can only come from
// a policy that was tightened since; as a bucket cannot be emptier than empty, the debt is cut to the
// depth.
func (l *Limit) Charge(tat, now, cost Ticks) (next Ticks, admitted bool) {
	debt := Debt(tat, now)
	if debt > l.Depth+skewMax {
		return now + l.Depth, false
	}
	if debt+cost > l.Depth {
		return tat, false
	}
	return now + debt + cost, true
}

// Take is Charge by tokens; more of them than a full bucket holds are never admitted.
func (l *Limit) Take(tat, now Ticks, tokens uint64) (next Ticks, admitted bool) {
	if tokens > l.Burst {
		return tat, false
	}
	return l.Charge(tat, now, l.Cost(tokens))
}

// Pace admits what is over the limit too, if it need not wait longer than ahead, and says how long
// that is. The TAT then runs ahead of what the depth allows by as much as is delayed.
func (l *Limit) Pace(tat, now, cost, ahead Ticks) (next, wait Ticks, admitted bool) {
	debt := Debt(tat, now)
	if debt+cost > l.Depth {
		wait = debt + cost - l.Depth
	}
	if wait > ahead {
		return tat, wait, false
	}
	return now + debt + cost, wait, true
}

// Refund is the TAT of a bucket that gets back what Take took.
func (l *Limit) Refund(tat Ticks, tokens uint64) Ticks { return tat - l.Cost(tokens) }

// Wait is how long after now the bucket will admit tokens: 0 if it does at once, [Never] if they are
// more than it holds.
func (l *Limit) Wait(tat, now Ticks, tokens uint64) Ticks {
	if tokens > l.Burst {
		return Never
	}
	return l.wait(tat, now, l.Cost(tokens))
}

func (l *Limit) wait(tat, now, cost Ticks) Ticks {
	if need := min(Debt(tat, now), l.Depth) + cost; need > l.Depth {
		return need - l.Depth
	}
	return 0
}

// Tokens is how many tokens the bucket holds at now, rounded down.
func (l *Limit) Tokens(tat, now Ticks) uint64 {
	debt := min(Debt(tat, now), l.Depth)
	free := uint64(l.Depth - debt)
	hi, lo := bits.Mul64(free, 1<<l.FracBits)
	tokens, _ := bits.Div64(hi, lo, l.TokenTime) // hi < TokenTime, as Depth is Burst token times
	return min(tokens, l.Burst)
}

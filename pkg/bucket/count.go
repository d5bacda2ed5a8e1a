package bucket

// Counters share the table with buckets: an entry's used is the count, and its TAT the instant from which
// the count means nothing, so that counters are evicted by the rule that holds for buckets. One that comes
// again after that instant, still in its entry, begins at 0.
//
// Instants are whole nanoseconds here. The ticks below them number the changes, so that who takes back a
// change can tell whether the TAT is still its own.
//
// A count never exceeds what its callers allow, since the first word is swapped as one. Two races are
// the counters' own, and each takes a thread that stands still between two instructions:
//
//   - Who claims an entry sets its TAT afterwards. Should somebody else claim it in between, whose bucket
//     then owes what it does not. All other entries of the set have to owe as well for that.
//   - Who begins an expired counter at 0 may do so a second time, if in between another did, and counted to
//     exactly what it was before. These hits are forgotten.

// nanosecond is in ticks what callers' instants are multiples of.
const nanosecond Ticks = 1 << tickShift

// Counting is what is asked of a counter in a table, and what came of it.
type Counting struct {
	N, Most   uint32 // N is added if the count is at most Most then
	Expires   Ticks  // what is counted is good until then, at most [DepthMax] away
	Hold      bool   // if N is denied, what there is becomes good until then as well
	EvictDebt bool   // as in [Charge]

	Count  uint32 // result: with N if that was admitted
	Before Ticks  // result: the TAT before N was added; 0 if there was no entry
	After  Ticks  // result: and afterwards
}

// Count adds to the counter that hash names, giving it an entry first if need be. What is denied by
// pressure, or because every swap was lost, has a count of 0.
func (t *Table) Count(hash uint64, now Ticks, c *Counting) Taken {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	c.Count, c.Before, c.After = 0, 0, 0
	var flags Taken
	for range maxTries {
		e := find(set, fingerprint)
		if e == nil {
			if c.N > c.Most {
				return flags
			}
			var got Taken
			if e, got = claim(set, fingerprint, now, c.EvictDebt); e == nil {
				if flags |= got; got == Pressure {
					return flags
				}
				continue
			}
			flags |= got
		}
		word := e.tag.Load()
		got, tat := splitTag(word), Ticks(e.tat.Load())
		switch {
		case got.fingerprint != fingerprint:
			continue // evicted since
		case got.used != 0 && expired(tat, now):
			e.tag.CompareAndSwap(word, tag{fingerprint: fingerprint}.word())
			continue
		case got.used > c.Most || c.N > c.Most-got.used:
			if c.Hold && Debt(c.Expires, now) >= Debt(tat, now)+nanosecond {
				e.tat.CompareAndSwap(uint64(tat), uint64(extended(tat, now, c.Expires)))
			}
			c.Count, c.Before, c.After = got.used, tat, tat
			return flags
		}
		// The TAT goes first, so that nobody finds a count that has expired before it began.
		after := extended(tat, now, c.Expires)
		if !e.tat.CompareAndSwap(uint64(tat), uint64(after)) {
			continue
		}
		if e.tag.CompareAndSwap(word, tag{fingerprint, got.used + c.N}.word()) {
			c.Count, c.Before, c.After = got.used+c.N, tat, after
			return flags | Admitted
		}
		e.tat.CompareAndSwap(uint64(after), uint64(tat))
	}
	return flags | Contended
}

func expired(tat, now Ticks) bool { return Debt(tat, now) < nanosecond }

// extended is the later of a TAT and an instant, told apart from the TAT by a number below the nanosecond.
func extended(tat, now, expires Ticks) Ticks {
	later := max(Debt(tat, now), Debt(expires, now)) + now
	return later&^(nanosecond-1) | (tat+1)&(nanosecond-1)
}

// Counted is the count of the counter that hash names, and how long it is good: 0 if it has no entry,
// or expired.
func (t *Table) Counted(hash uint64, now Ticks) (count uint32, left Ticks) {
	fingerprint := Fingerprint(hash)
	e := find(t.set(hash), fingerprint)
	if e == nil {
		return 0, 0
	}
	got, tat := e.loadTag(), Ticks(e.tat.Load())
	if got.fingerprint != fingerprint || got.used == 0 || expired(tat, now) {
		return 0, 0
	}
	return got.used, Debt(tat, now) &^ (nanosecond - 1)
}

// Uncount takes n from the counter that hash names, if it has them. As far as the TAT is still what the
// same hits made of it, after, it becomes before again; 0 for both leaves it. A count of 0 is good for no time. False
// means that every swap was lost.
func (t *Table) Uncount(hash uint64, n uint32, before, after Ticks) bool {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	for range maxTries {
		e := find(set, fingerprint)
		if e == nil {
			return true
		}
		word, tat := e.tag.Load(), e.tat.Load()
		got := splitTag(word)
		switch {
		case got.fingerprint != fingerprint:
			continue
		case got.used < n:
			return true // they were forgotten before
		case !e.tag.CompareAndSwap(word, tag{fingerprint, got.used - n}.word()):
			continue
		case got.used == n: // what counts nothing has to make room; not if somebody counts since
			e.tat.CompareAndSwap(tat, tat-uint64(DepthMax))
		case before != after:
			e.tat.CompareAndSwap(uint64(after), uint64(before))
		}
		return true
	}
	return false
}

// Pressed tells whether who has this hash has no entry, and could get one only in the place of a debt.
func (t *Table) Pressed(hash uint64, now Ticks) bool {
	set := t.set(hash)
	if find(set, Fingerprint(hash)) != nil {
		return false
	}
	for i := range set {
		if worth(&set[i], now) <= 0 {
			return false
		}
	}
	return true
}

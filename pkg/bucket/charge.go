package bucket

// Charge is what is asked of a bucket in a table, and what came of it. Its layout need not be that of
// struct table_charge, but its meaning is.
type Charge struct {
	Cost  Ticks // what is taken, at most the limit's depth
	Extra Ticks // what is taken as well if the bucket holds both; 0: nothing
	// Ahead paces: what has to wait no longer than this is admitted, to be delayed. 0: no pacing.
	Ahead  Ticks
	Tokens uint32 // that Cost pays for, to be counted as used
	More   uint32 // the same for Extra
	// EvictDebt says what a newcomer does when all ways of its set owe tokens: take the place of the
	// smallest debt, or be denied.
	EvictDebt bool

	TookExtra bool  // result
	Wait      Ticks // result: until Cost would be admitted or, admitted by pacing, until it may depart
	TAT       Ticks // result: the bucket's, after the charge if it was admitted
}

// decide is table_decide of table.h.
func (l *Limit) decide(tat, now Ticks, c *Charge) (next Ticks, admitted bool) {
	c.TookExtra, c.Wait = false, 0
	if c.Ahead != 0 {
		next, c.Wait, admitted = l.Pace(tat, now, c.Cost, c.Ahead)
		return next, admitted
	}
	if next, admitted = l.Charge(tat, now, c.Cost); !admitted {
		c.Wait = l.wait(next, now, c.Cost)
		return next, false
	}
	if c.Extra != 0 {
		if both, ok := l.Charge(next, now, c.Extra); ok {
			next, c.TookExtra = both, true
		}
	}
	return next, true
}

// Charge charges the bucket that hash names, giving it an entry first if need be. What is denied by
// pressure or because every swap was lost has a wait of 0.
func (t *Table) Charge(hash uint64, l *Limit, now Ticks, c *Charge) Taken {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	c.Wait, c.TAT = 0, now
	var flags Taken
	for range maxTries {
		e := find(set, fingerprint)
		if e == nil {
			var got Taken
			if e, got = claim(set, fingerprint, now, c.EvictDebt); e == nil {
				if flags |= got; got == Pressure {
					return flags
				}
				continue
			}
			flags |= got
		}
		tat := Ticks(e.tat.Load())
		next, admitted := l.decide(tat, now, c)
		c.TAT = next
		switch {
		case next == tat && admitted:
			return flags | Admitted
		case next == tat:
			return flags
		case !e.tat.CompareAndSwap(uint64(tat), uint64(next)):
			continue
		case !admitted:
			return flags
		}
		used := c.Tokens
		if c.TookExtra {
			used += c.More
		}
		e.addUsed(used)
		return flags | Admitted
	}
	c.Wait = 0
	return flags | Contended
}

// Take takes tokens from the bucket that hash names. More than a full bucket holds are denied without
// looking for it. evictDebt is [Charge].EvictDebt.
func (t *Table) Take(hash uint64, l *Limit, now Ticks, tokens uint64, evictDebt bool) Taken {
	if tokens > l.Burst {
		return 0
	}
	return t.Charge(hash, l, now, &Charge{Cost: l.Cost(tokens), Tokens: uint32(tokens), EvictDebt: evictDebt})
}

// Refund gives back what Take took, if the source still has its entry. False means that every swap was
// lost, and nothing given back.
func (t *Table) Refund(hash uint64, l *Limit, tokens uint64) bool {
	return t.refund(hash, l.Cost(tokens), uint32(tokens))
}

func (t *Table) refund(hash uint64, cost Ticks, tokens uint32) bool {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	for range maxTries {
		e := find(set, fingerprint)
		if e == nil {
			return true
		}
		tat := e.tat.Load()
		if e.tat.CompareAndSwap(tat, tat-uint64(cost)) {
			e.addUsed(-tokens)
			return true
		}
	}
	return false
}

// RefundLast is Refund if nobody has charged the bucket since Take made its TAT what is given here.
func (t *Table) RefundLast(hash uint64, l *Limit, tokens uint64, tat Ticks) {
	if e := find(t.set(hash), Fingerprint(hash)); e != nil && e.tat.CompareAndSwap(uint64(tat), uint64(l.Refund(tat, tokens))) {
		e.addUsed(-uint32(tokens))
	}
}

// Has tells whether the bucket that hash names has an entry: whether its source was seen before.
func (t *Table) Has(hash uint64) bool { return find(t.set(hash), Fingerprint(hash)) != nil }

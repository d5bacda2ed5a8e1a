package bucket

// Counters share the table with buckets: an entry's used is the count, and its TAT the instant from which
// the count means nothing, so that counters are evicted by the rule that holds for buckets. A counter of
// something that comes again, such as a window of time, needs a hash of its own each time.
//
// A counter's first word is swapped as one, so that it never exceeds what its callers allow. One race
// is its own: who claims an entry sets its TAT afterwards. Should the entry be claimed by somebody else in
// between, that one's bucket owes until then what it does not. It takes a thread that stands still
// between two instructions, and a set whose other entries all owe.

// Count adds n to the counter that hash names, if it is at most most then. The count is good until
// expires, at most [DepthMax] away. It returns the count, with n if that was [Admitted].
func (t *Table) Count(hash uint64, now, expires Ticks, n, most uint32, evictDebt bool) (count uint32, flags Taken) {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	for range maxTries {
		e := find(set, fingerprint)
		if e == nil {
			if n > most {
				return 0, flags
			}
			var got Taken
			if e, got = claim(set, fingerprint, now, evictDebt); e == nil {
				if flags |= got; got == Pressure {
					return 0, flags
				}
				continue
			}
			flags |= got
		}
		if tat := e.tat.Load(); int64(uint64(expires)-tat) > 0 {
			e.tat.CompareAndSwap(tat, uint64(expires))
		}
		word := e.tag.Load()
		got := splitTag(word)
		switch {
		case got.fingerprint != fingerprint:
			continue // evicted since
		case got.used > most || n > most-got.used:
			return got.used, flags
		case e.tag.CompareAndSwap(word, tag{fingerprint, got.used + n}.word()):
			return got.used + n, flags | Admitted
		}
	}
	return 0, flags | Contended
}

// Counted is the count of the counter that hash names: 0 if it has no entry.
func (t *Table) Counted(hash uint64) uint32 {
	e := find(t.set(hash), Fingerprint(hash))
	if e == nil {
		return 0
	}
	got := e.loadTag()
	if got.fingerprint != Fingerprint(hash) {
		return 0
	}
	return got.used
}

// Uncount takes n from the counter that hash names, if it has them.
func (t *Table) Uncount(hash uint64, n uint32) {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	for range maxTries {
		e := find(set, fingerprint)
		if e == nil {
			return
		}
		word := e.tag.Load()
		got := splitTag(word)
		if got.fingerprint == fingerprint && got.used >= n && e.tag.CompareAndSwap(word, tag{fingerprint, got.used - n}.word()) {
			return
		}
	}
}

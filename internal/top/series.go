package top

import "time"

// kept is how many seconds a series remembers: the one that is running, and Seconds before it.
const kept = Seconds + 1

// amount is what came in some time.
type amount struct {
	passed  uint64 // packets, those that a policy in shadow would have denied among them
	dropped uint64 // packets
	shadow  uint64 // packets that passed, and that a policy in shadow would have dropped
	bytes   uint64 // that passed
	samples uint64
	// The variances of passed, and of dropped and shadow, for packets that are drawn by chance: a sample
	// of weight w stands for them with a variance of w(w-1), which is none for a weight of 1.
	passedVariance, deniedVariance float64
}

func (a *amount) denied() uint64 { return a.dropped + a.shadow }

func (a *amount) add(b *amount) {
	a.passed += b.passed
	a.dropped += b.dropped
	a.shadow += b.shadow
	a.bytes += b.bytes
	a.samples += b.samples
	a.passedVariance += b.passedVariance
	a.deniedVariance += b.deniedVariance
}

// series has the amounts of the last seconds, of a clock that begins at 0. The zero value is ready to use.
type series struct {
	bins [kept]amount
	last int64 // the second of the newest bin
}

func second(now time.Duration) int64 { return int64(now / time.Second) }

// at is the bin of an instant; nil if that is too long ago.
func (s *series) at(now time.Duration) *amount {
	sec := second(now)
	if sec <= s.last-kept {
		return nil
	}
	s.last = max(s.last, sec-kept) // all bins are cleared below, and none twice
	for s.last < sec {
		s.last++
		s.bins[s.last%kept] = amount{}
	}
	return &s.bins[sec%kept]
}

// since sums up from a second on, as far as it is remembered.
func (s *series) since(first int64) amount {
	var sum amount
	for sec := max(first, s.last-kept+1); sec <= s.last; sec++ {
		if sec >= 0 {
			sum.add(&s.bins[sec%kept])
		}
	}
	return sum
}

// history lists a value of each second from first to before end, oldest first.
func (s *series) history(first, end int64, value func(*amount) uint64) []uint64 {
	all := make([]uint64, 0, max(0, end-first))
	for sec := first; sec < end; sec++ {
		if sec < 0 || sec <= s.last-kept || sec > s.last {
			all = append(all, 0)
			continue
		}
		all = append(all, value(&s.bins[sec%kept]))
	}
	return all
}

package policy

import (
	"fmt"
	"time"
)

// The bounds of a rate. They keep the time per token, and the time to refill a
// whole burst, inside what the 64-bit fixed-point time of the kernel's bucket
// holds with its promised precision.
const (
	// MaxTokens is the largest limit and the largest burst, in tokens.
	MaxTokens = 1 << 40
	// MaxRequestRate is the fastest limit in requests (packets) per second.
	MaxRequestRate = 100_000_000
	// MaxByteRate is the fastest limit in bytes per second: 400 Gbit/s.
	MaxByteRate = 50_000_000_000
	// SlowestToken is the longest time that one token may take: 1 per day.
	SlowestToken = 24 * time.Hour
	// MaxRefill is the longest time that an empty bucket may take to fill up.
	MaxRefill = 100 * 24 * time.Hour
	// MinByteBurst is the smallest burst of a byte limit: one full Ethernet
	// frame, 1500 bytes and its header. A smaller bucket would never let it
	// pass.
	MinByteBurst = 1514
)

func (p Policy) checkRates(fs *faults) {
	main := rate{limit: p.Limit, window: p.Window, burst: p.Burst, unit: p.Unit}
	if main.check(fs) {
		main.checkBurst(fs)
	} else if p.Burst != p.Limit {
		// A burst that was copied from a bad limit is not a second fault.
		main.checkBurstRange(fs)
	}
	if n := p.NewSources; n != nil {
		r := rate{prefix: "new_sources.", limit: n.Limit, window: n.Window, burst: n.Limit, unit: UnitRequests}
		if r.check(fs) && !r.refills() {
			fs.add("new_sources.window", fmt.Sprintf("%s is longer than %s", FormatDuration(n.Window), FormatDuration(MaxRefill)),
				fmt.Sprintf("shorten window to at most %s", FormatDuration(MaxRefill)))
		}
	}
}

// rate is a limit over a window with a burst, and where it stands in the
// policy.
type rate struct {
	prefix string // of the field paths, such as "new_sources."
	limit  uint64
	window time.Duration
	burst  uint64
	unit   Unit
}

// check judges limit and window and reports whether both are in order.
func (r rate) check(fs *faults) bool {
	before := len(*fs)
	switch {
	case r.limit < 1:
		fs.add(r.prefix+"limit", "must be at least 1, got 0", "set limit to 1 or more")
	case r.limit > MaxTokens:
		fs.add(r.prefix+"limit", tooMany(r.limit), fmt.Sprintf("set limit to at most %d", uint64(MaxTokens)))
	}
	if r.window <= 0 {
		fs.add(r.prefix+"window", fmt.Sprintf("must be longer than 0, got %s", FormatDuration(r.window)),
			"set window to a duration such as 1s")
	}
	if len(*fs) == before {
		r.checkSlow(fs)
		r.checkFast(fs)
	}
	return len(*fs) == before
}

func tooMany(n uint64) string {
	return fmt.Sprintf("%d tokens are more than the kernel's arithmetic holds, 2^40", n)
}

func (r rate) checkSlow(fs *faults) {
	if productAtMost(uint64(r.window), 1, r.limit, uint64(SlowestToken)) {
		return
	}
	// limit * day is below window here, hence fits a Duration.
	longest := time.Duration(r.limit) * SlowestToken
	fs.add(r.prefix+"limit", fmt.Sprintf("%s is slower than the slowest rate, 1/day", r),
		fmt.Sprintf("raise limit to at least %d, or shorten window to at most %s",
			mulDivUp(uint64(r.window), 1, uint64(SlowestToken)), FormatDuration(longest)), r.prefix+"window")
}

func (r rate) checkFast(fs *faults) {
	fastest := r.fastest()
	if productAtMost(r.limit, uint64(time.Second), fastest, uint64(r.window)) {
		return
	}
	shortest := FormatDuration(time.Duration(mulDivUp(r.limit, uint64(time.Second), fastest)))
	mend := fmt.Sprintf("lengthen window to at least %s", shortest)
	if most := mulDiv(fastest, uint64(r.window), uint64(time.Second)); most > 0 {
		mend = fmt.Sprintf("lower limit to at most %d, or %s", most, mend)
	}
	fs.add(r.prefix+"limit", fmt.Sprintf("%s is faster than the fastest rate, %s", r,
		rate{limit: fastest, window: time.Second, unit: r.unit}), mend, r.prefix+"window", "unit")
}

// fastest is the largest rate of the unit, in tokens per second.
func (r rate) fastest() uint64 {
	if r.unit == UnitBytes {
		return MaxByteRate
	}
	return MaxRequestRate
}

// smallestBurst is the smallest burst of the unit, in tokens.
func (r rate) smallestBurst() uint64 {
	if r.unit == UnitBytes {
		return MinByteBurst
	}
	return 1
}

// checkBurst judges a burst whose limit and window are in order.
func (r rate) checkBurst(fs *faults) {
	before := len(*fs)
	r.checkBurstRange(fs)
	if len(*fs) > before || r.refills() {
		return
	}
	fs.add("burst", fmt.Sprintf("a burst of %d at %s takes longer than %s to refill", r.burst, r, FormatDuration(MaxRefill)),
		r.refillMend(), "limit", "window")
}

func (r rate) checkBurstRange(fs *faults) {
	switch least := r.smallestBurst(); {
	case r.burst < 1:
		fs.add("burst", "must be at least 1, got 0: nothing would ever pass", "remove burst for the default (the limit), or set it to "+
			fmt.Sprintf("%d or more", least))
	case r.burst > MaxTokens:
		fs.add("burst", tooMany(r.burst), fmt.Sprintf("set burst to at most %d", uint64(MaxTokens)))
	case r.burst < least:
		fs.add("burst", fmt.Sprintf("%d bytes would drop every full Ethernet frame for ever", r.burst),
			fmt.Sprintf("set burst to at least %d", least), "unit", "limit")
	}
}

// refills reports whether an empty bucket is full again within MaxRefill.
func (r rate) refills() bool {
	return productAtMost(r.burst, uint64(r.window), uint64(MaxRefill), r.limit)
}

// refillMend names the burst that would do, if there is one, and else the
// limit that would.
func (r rate) refillMend() string {
	if most := mulDiv(uint64(MaxRefill), r.limit, uint64(r.window)); most >= r.smallestBurst() {
		return fmt.Sprintf("lower burst to at most %d", most)
	}
	return fmt.Sprintf("raise limit to at least %d, or shorten window",
		mulDivUp(r.burst, uint64(r.window), uint64(MaxRefill)))
}

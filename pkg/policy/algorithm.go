package policy

import (
	"fmt"
	"math"
	"time"
)

// What the algorithms of layer 7 can hold.
const (
	// MaxCount is the largest limit of an algorithm that counts: sliding_window,
	// fixed_window, concurrency.
	MaxCount = math.MaxUint32
	// MaxQueueDelay is how long leaky_bucket delays the last request of a full
	// queue: most clients have gone by then.
	MaxQueueDelay = 30 * time.Second
	// MinLease and MaxLease bound the window of concurrency, after which a
	// request that nobody released is taken for over.
	MinLease = 100 * time.Millisecond
	MaxLease = 24 * time.Hour
)

// counts reports whether the algorithm counts up to its limit, and has neither
// tokens nor a burst.
func (a Algorithm) counts() bool {
	return a == AlgorithmSlidingWindow || a == AlgorithmFixedWindow || a == AlgorithmConcurrency
}

// checkL7 judges what layer 7 has no use for, and what the algorithm cannot do.
func (p Policy) checkL7(fs *faults) {
	if p.Layer != LayerL7 {
		return
	}
	if p.Unit == UnitBytes {
		fs.add("unit", "layer l7 counts requests, not bytes", `set "unit: requests" or "layer: kernel"`, "layer", "scope")
	}
	if p.Limit == 0 || p.Window <= 0 {
		return // a fault already
	}
	if p.Algorithm.counts() {
		p.checkCounting(fs)
	}
	switch p.Algorithm {
	case AlgorithmLeakyBucket:
		p.checkQueue(fs)
	case AlgorithmConcurrency:
		p.checkLease(fs)
	}
}

func (p Policy) checkCounting(fs *faults) {
	if p.Limit > MaxCount {
		fs.add("limit", fmt.Sprintf("algorithm %s counts to %d, and not to %d", p.Algorithm, uint32(MaxCount), p.Limit),
			fmt.Sprintf(`set limit to at most %d, or "algorithm: token_bucket"`, uint32(MaxCount)), "algorithm")
	}
	if p.Burst != p.Limit {
		fs.add("burst", fmt.Sprintf("algorithm %s has no burst beside its limit of %d", p.Algorithm, p.Limit),
			`remove burst or set "algorithm: token_bucket"`, "algorithm", "limit")
	}
}

// checkQueue bounds how long the last request of a full queue waits: its
// place times the time that one takes.
func (p Policy) checkQueue(fs *faults) {
	if productAtMost(p.Burst, uint64(p.Window), uint64(MaxQueueDelay), p.Limit) {
		return
	}
	mend := fmt.Sprintf("raise limit to at least %d, or shorten window", mulDivUp(p.Burst, uint64(p.Window), uint64(MaxQueueDelay)))
	if most := mulDiv(uint64(MaxQueueDelay), p.Limit, uint64(p.Window)); most > 0 {
		mend = fmt.Sprintf("set burst, the length of the queue, to at most %d", most)
	}
	fs.add("burst", fmt.Sprintf("a queue of %d at %s is longer than %s", p.Burst, p.Rate(), FormatDuration(MaxQueueDelay)), mend,
		"algorithm", "limit", "window")
}

func (p Policy) checkLease(fs *faults) {
	if p.Window < MinLease || p.Window > MaxLease {
		fs.add("window", fmt.Sprintf("%s is no life for a request in flight, after which its place is free again", FormatDuration(p.Window)),
			fmt.Sprintf("set window to %s or more, and at most %s", FormatDuration(MinLease), FormatDuration(MaxLease)), "algorithm")
	}
}

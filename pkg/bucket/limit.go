package bucket

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// Ticks counts time in 1/256 ns. As an instant it counts from the machine's start
// (CLOCK_MONOTONIC, as bpf_ktime_get_ns does) and wraps every 2^56 ns, which is 2.28 years.
type Ticks uint64

const (
	tickShift = 8

	// DepthMax is the longest that a bucket may take to fill: 2^53 ns, 104 days. No distance between
	// two instants that means anything is larger, so that a wrapped counter can be told from it.
	DepthMax Ticks = 1 << 61

	// skewMax is longer than a CPU is kept from running between its look at the clock and its swap: 1.07 s.
	skewMax Ticks = 1 << 38

	// wholeTicks is the shortest token time that is kept in whole ticks, 10 ns. Rounding it moves
	// the rate by 0.02 % at most.
	wholeTicks = 10 << tickShift

	// maxFracBits bounds the binary places below a tick; 16 leave an error of 2^-17 ticks a token.
	maxFracBits = 16
)

// AtNanoseconds is the instant ns nanoseconds after the machine's start.
func AtNanoseconds(ns uint64) Ticks { return Ticks(ns << tickShift) }

// Duration is t as a length of time, rounded down to nanoseconds.
func (t Ticks) Duration() time.Duration { return time.Duration(t >> tickShift) }

// Limit holds the constants of a token bucket as the arithmetic needs them. Its layout is that of
// struct bucket_limit. [NewLimit] makes valid ones.
type Limit struct {
	TokenTime uint64 // ticks that one token takes to come back, times 2^FracBits
	Depth     Ticks  // what an empty bucket takes to fill, at most DepthMax
	Burst     uint64 // tokens in a full bucket
	FracBits  uint32 // binary places of TokenTime below one tick, 0 to 16
	_         uint32
}

// ErrLimit is wrapped by the errors of [NewLimit].
var ErrLimit = errors.New("limit out of range")

// NewLimit computes the constants of a bucket that gains tokens per window and holds burst of them.
//
// Up to 100 M tokens a second a token takes a whole number of ticks, so that a burst is exact.
// Faster ones, which are bytes, keep up to 16 binary places more, and a packet's cost is rounded
// down. Either way the rate is met within 0.1 % as long as packets are 10 ns or more apart.
//
// It fails if an argument is zero or negative, if a token takes less than a thousandth of a tick, or if a full
// burst takes longer than [DepthMax] to come back.
func NewLimit(tokens uint64, window time.Duration, burst uint64) (Limit, error) {
	if tokens == 0 || window <= 0 || burst == 0 {
		return Limit{}, fmt.Errorf("%w: %d tokens per %v, burst %d: none may be zero or negative", ErrLimit, tokens, window, burst)
	}
	l, ok := scaled(tokens, window, burst, 0)
	if ok && l.TokenTime < wholeTicks {
		// Keep the products of Cost below 2^63: depth is the largest of them.
		frac := min(maxFracBits, 62-bits.Len64(burst)-bits.Len64(l.TokenTime))
		if frac < 0 {
			return Limit{}, fmt.Errorf("%w: a burst of %d tokens is too large", ErrLimit, burst)
		}
		l, ok = scaled(tokens, window, burst, uint32(frac))
	}
	switch {
	case !ok:
		return Limit{}, fmt.Errorf("%w: a burst of %d tokens at %d per %v takes longer than %v to come back",
			ErrLimit, burst, tokens, window, DepthMax.Duration())
	case l.TokenTime<<(maxFracBits-l.FracBits) < 1<<6:
		return Limit{}, fmt.Errorf("%w: %d tokens per %v is faster than time is counted", ErrLimit, tokens, window)
	}
	return l, nil
}

// scaled computes the constants with a given number of binary places; false if the depth is too large.
func scaled(tokens uint64, window time.Duration, burst uint64, fracBits uint32) (Limit, bool) {
	hi, lo := bits.Mul64(uint64(window), 1<<(tickShift+fracBits))
	lo, carry := bits.Add64(lo, tokens/2, 0) // to the nearest
	hi += carry
	if hi >= tokens {
		return Limit{}, false
	}
	tokenTime, _ := bits.Div64(hi, lo, tokens)
	hi, lo = bits.Mul64(tokenTime, burst)
	if hi >= 1<<fracBits {
		return Limit{}, false
	}
	depth := Ticks(lo >> fracBits)
	if fracBits > 0 {
		depth |= Ticks(hi << (64 - fracBits))
	}
	return Limit{TokenTime: tokenTime, Depth: depth, Burst: burst, FracBits: fracBits}, depth <= DepthMax
}

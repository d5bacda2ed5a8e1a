package policy

import (
	"math"
	"math/bits"
)

// Limits times windows do not fit 64 bits, and floats would move the bounds,
// so comparisons are made on 128-bit products.

// productAtMost reports whether a*b <= c*d.
func productAtMost(a, b, c, d uint64) bool {
	abHi, abLo := bits.Mul64(a, b)
	cdHi, cdLo := bits.Mul64(c, d)
	return abHi < cdHi || abHi == cdHi && abLo <= cdLo
}

// mulDiv returns a*b/c rounded down, or the largest uint64 if the quotient does
// not fit or c is 0.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return math.MaxUint64
	}
	quotient, _ := bits.Div64(hi, lo, c)
	return quotient
}

// mulDivUp is mulDiv rounded up.
func mulDivUp(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return math.MaxUint64
	}
	quotient, rest := bits.Div64(hi, lo, c)
	if rest > 0 && quotient < math.MaxUint64 {
		quotient++
	}
	return quotient
}

package policy

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// edges draws numbers of every magnitude, and those beside the bounds.
func edges() *rapid.Generator[uint64] {
	return rapid.OneOf(
		rapid.Uint64(),
		rapid.Uint64Range(0, 2000),
		rapid.Custom(func(t *rapid.T) uint64 { return 1 << rapid.IntRange(0, 63).Draw(t, "bit") }),
		rapid.SampledFrom([]uint64{MaxTokens - 1, MaxTokens, MaxTokens + 1, MaxRequestRate, MaxRequestRate + 1,
			MaxByteRate, MaxByteRate + 1, MinByteBurst, uint64(SlowestToken), uint64(MaxRefill), math.MaxInt64, math.MaxUint64}),
	)
}

// acceptable restates the rules of the numbers with big integers.
func acceptable(p Policy) bool {
	product := func(a, b uint64) *big.Int {
		return new(big.Int).Mul(new(big.Int).SetUint64(a), new(big.Int).SetUint64(b))
	}
	fastest, least := uint64(MaxRequestRate), uint64(1)
	if p.Unit == UnitBytes {
		fastest, least = MaxByteRate, MinByteBurst
	}
	window := uint64(max(0, p.Window))
	return p.Limit >= 1 && p.Limit <= MaxTokens && p.Burst >= least && p.Burst <= MaxTokens && p.Window > 0 &&
		product(p.Limit, uint64(SlowestToken)).Cmp(product(window, 1)) >= 0 &&
		product(p.Limit, uint64(time.Second)).Cmp(product(fastest, window)) <= 0 &&
		product(p.Burst, window).Cmp(product(uint64(MaxRefill), p.Limit)) <= 0
}

func drawPolicy(t *rapid.T) Policy {
	p := valid()
	p.Limit = edges().Draw(t, "limit")
	p.Window = time.Duration(edges().Draw(t, "window"))
	p.Burst = edges().Draw(t, "burst")
	p.Unit = rapid.SampledFrom(Units()).Draw(t, "unit")
	return p
}

// TestNumbersNeverOverflow compares the verdict with exact arithmetic.
func TestNumbersNeverOverflow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		if faults := p.Validate(); (faults == nil) != acceptable(p) {
			t.Fatalf("faults %v", faults)
		}
	})
}

// TestMendsMend does what each message advises and expects its fault to go.
func TestMendsMend(t *testing.T) {
	advice := []struct {
		lead string
		set  func(*Policy, uint64)
	}{
		{"lower burst to at most ", func(p *Policy, n uint64) { p.Burst = n }},
		{"set burst to at least ", func(p *Policy, n uint64) { p.Burst = n }},
		{"set burst to at most ", func(p *Policy, n uint64) { p.Burst = n }},
		{"lower limit to at most ", func(p *Policy, n uint64) { p.Limit = n }},
		{"set limit to at most ", func(p *Policy, n uint64) { p.Limit = n }},
		{"raise limit to at least ", func(p *Policy, n uint64) { p.Limit = n }},
	}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		for _, f := range p.Validate() {
			for _, a := range advice {
				rest, ok := strings.CutPrefix(f.Mend, a.lead)
				if !ok {
					continue
				}
				n, err := strconv.ParseUint(strings.SplitN(rest, ",", 2)[0], 10, 64)
				if err != nil {
					t.Fatalf("%q has no number", f.Mend)
				}
				mended := p
				a.set(&mended, n)
				same := func(g Fault) bool { return g.Path == f.Path && strings.HasPrefix(g.Mend, a.lead) }
				if slices.ContainsFunc(mended.Validate(), same) {
					t.Fatalf("%v does not mend", f)
				}
			}
		}
	})
}

func TestMulDiv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := edges().Draw(t, "a"), edges().Draw(t, "b"), edges().Draw(t, "c")
		want, wantUp := uint64(math.MaxUint64), uint64(math.MaxUint64)
		if c > 0 {
			product := new(big.Int).Mul(new(big.Int).SetUint64(a), new(big.Int).SetUint64(b))
			quotient, rest := new(big.Int).QuoRem(product, new(big.Int).SetUint64(c), new(big.Int))
			if quotient.IsUint64() {
				want = quotient.Uint64()
			}
			if up := quotient.Add(quotient, big.NewInt(int64(rest.Sign()))); up.IsUint64() {
				wantUp = up.Uint64()
			}
		}
		if got, gotUp := mulDiv(a, b, c), mulDivUp(a, b, c); got != want || gotUp != wantUp {
			t.Fatalf("got %d and %d, want %d and %d", got, gotUp, want, wantUp)
		}
	})
}

// TestRateIsExact reads a formatted number of bytes back.
func TestRateIsExact(t *testing.T) {
	scale := map[string]int64{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
	rapid.Check(t, func(t *rapid.T) {
		n := edges().Draw(t, "n")
		number, unit, _ := strings.Cut(byteCount(n), " ")
		value, ok := new(big.Rat).SetString(number)
		if !ok || value.Mul(value, big.NewRat(scale[unit], 1)).Cmp(new(big.Rat).SetFrac(new(big.Int).SetUint64(n), big.NewInt(1))) != 0 {
			t.Fatalf("%d is written as %s", n, byteCount(n))
		}
	})
}

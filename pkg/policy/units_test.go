package policy_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestUnitsHold writes limits down as policies, over the whole range that is promised, and compares
// the rate that their buckets admit with the one that was meant, in exact arithmetic: at most 0.1 % apart.
func TestUnitsHold(t *testing.T) {
	const (
		day = 24 * time.Hour
		bit = 1.0 / 8 // in bytes
	)
	packets, bytes := policy.UnitRequests, policy.UnitBytes
	for _, c := range []struct {
		name   string
		unit   policy.Unit
		limit  uint64
		window time.Duration
		rate   float64 // tokens per second that are meant
	}{
		{"1 packet a day", packets, 1, day, 1.0 / 86400},
		{"1 packet an hour", packets, 1, time.Hour, 1.0 / 3600},
		{"7 packets a week", packets, 7, 7 * day, 1.0 / 86400},
		{"1 packet/s", packets, 1, time.Second, 1},
		{"1000 packets/s", packets, 1000, time.Second, 1000},
		{"14.88 M packets/s", packets, 14_880_000, time.Second, 14.88e6},
		{"33.3 M packets/s", packets, 33_300_000, time.Second, 33.3e6},
		{"99.99 M packets/s", packets, 99_990_000, time.Second, 99.99e6},
		{"100 M packets/s", packets, 100_000_000, time.Second, 100e6},
		{"1 packet/10 ns", packets, 1, 10, 100e6},
		{"10 bit/s", bytes, 5, 4 * time.Second, 10 * bit},
		{"10 bit/s, by the minute", bytes, 75, time.Minute, 10 * bit},
		{"56 kbit/s", bytes, 7000, time.Second, 56e3 * bit},
		{"1 Mbit/s", bytes, 125_000, time.Second, 1e6 * bit},
		{"100 Mbit/s", bytes, 12_500_000, time.Second, 100e6 * bit},
		{"1 Gbit/s", bytes, 125_000_000, time.Second, 1e9 * bit},
		{"10 Gbit/s", bytes, 1_250_000_000, time.Second, 10e9 * bit},
		{"25 Gbit/s, by the minute", bytes, 187_500_000_000, time.Minute, 25e9 * bit},
		{"100 Gbit/s", bytes, 12_500_000_000, time.Second, 100e9 * bit},
		{"399 Gbit/s", bytes, 49_875_000_000, time.Second, 399e9 * bit},
		{"400 Gbit/s", bytes, 50_000_000_000, time.Second, 400e9 * bit},
		{"400 Gbit/s, by the millisecond", bytes, 50_000_000, time.Millisecond, 400e9 * bit},
	} {
		smallest := map[policy.Unit]uint64{packets: 1, bytes: policy.MinByteBurst}[c.unit]
		for _, burst := range []uint64{smallest, 1 << 20, 1 << 30} {
			p := policy.Policy{Name: "a", Scope: policy.ScopePerIP, Unit: c.unit, Limit: c.limit, Window: c.window, Burst: burst}.WithDefaults()
			if float64(burst)/c.rate > policy.MaxRefill.Seconds() {
				p.Burst = smallest // at this rate no bucket may be deeper
			}
			if faults := p.Validate(); faults != nil {
				t.Errorf("%s: %v", c.name, faults)
				continue
			}
			limit, err := bucket.NewLimit(p.Limit, p.Window, p.Burst)
			if err != nil {
				t.Errorf("%s, burst %d: %v", c.name, p.Burst, err)
				continue
			}
			for _, size := range sizes(c.unit, c.rate) {
				if off := deviation(&limit, size, c.rate); off > 0.001 {
					t.Errorf("%s, burst %d, %d tokens a packet: %.3f %% off", c.name, p.Burst, size, 100*off)
				}
			}
		}
	}
}

// sizes returns the costs of a packet for which the bucket decides: packets are 10 ns apart or more,
// so that at 400 Gbit/s smaller ones than 500 bytes never use up what flows in.
func sizes(unit policy.Unit, rate float64) []uint64 {
	if unit == policy.UnitRequests {
		return []uint64{1}
	}
	var sizes []uint64
	for _, size := range []uint64{60, 64, 500, 594, 1514} {
		if float64(size)*policy.MaxRequestRate >= rate {
			sizes = append(sizes, size)
		}
	}
	return sizes
}

// deviation is how far the long-run rate of packets of a size is from the one meant, as a part of it.
func deviation(l *bucket.Limit, size uint64, rate float64) float64 {
	// A saturated bucket admits one packet in the time that its tokens take to come back.
	const ticksPerSecond = 256e9
	admitted := new(big.Rat).SetFrac(
		new(big.Int).Mul(new(big.Int).SetUint64(size), big.NewInt(ticksPerSecond)),
		new(big.Int).SetUint64(uint64(l.Cost(size))))
	off := new(big.Rat).Quo(admitted, new(big.Rat).SetFloat64(rate))
	f, _ := off.Sub(off, big.NewRat(1, 1)).Float64()
	return max(f, -f)
}

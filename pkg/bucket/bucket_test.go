package bucket

import (
	"encoding/binary"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func address(version, high, low uint64) netip.Addr {
	if version == 4 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(low))
		return netip.AddrFrom4(a)
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], high)
	binary.BigEndian.PutUint64(a[8:], low)
	return netip.AddrFrom16(a)
}

func mustLimit(t interface{ Fatal(...any) }, tokens uint64, window time.Duration, burst uint64) Limit {
	l, err := NewLimit(tokens, window, burst)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// exactRate compares the rate that a saturated bucket admits with the one that was asked for,
// in exact arithmetic. weight is the cost of each packet.
func exactRate(t interface {
	Fatal(...any)
	Errorf(string, ...any)
}, tokens uint64, window time.Duration, weight uint64) {
	l := mustLimit(t, tokens, window, max(weight, 1))
	got := new(big.Rat).SetFrac64(int64(weight), 1)
	got.Quo(got, new(big.Rat).SetInt(new(big.Int).SetUint64(uint64(l.Cost(weight))))) // tokens a tick
	want := new(big.Rat).SetFrac(new(big.Int).SetUint64(tokens), new(big.Int).Lsh(big.NewInt(int64(window)), tickShift))
	off := new(big.Rat).Sub(new(big.Rat).Quo(got, want), big.NewRat(1, 1))
	if off.Abs(off).Cmp(big.NewRat(1, 1000)) > 0 {
		f, _ := off.Float64()
		t.Errorf("%d tokens per %v at %d a packet: the rate is %.3f %% off, want 0.1 %% at most", tokens, window, weight, 100*f)
	}
}

func TestRateOverTheWholeRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// In 10 ns there may be one packet, at the fastest.
		window := time.Duration(rapid.Int64Range(10, int64(24*time.Hour)).Draw(t, "window"))
		most := new(big.Int).Div(new(big.Int).Mul(big.NewInt(int64(window)), big.NewInt(100_000_000)), big.NewInt(1e9))
		exactRate(t, rapid.Uint64Range(1, most.Uint64()).Draw(t, "tokens"), window, 1)
	})
	for tokens := uint64(1); tokens <= 100_000_000; tokens = tokens*11/10 + 1 {
		exactRate(t, tokens, time.Second, 1)
	}
	exactRate(t, 100_000_000, time.Second, 1)
	exactRate(t, 1, 24*time.Hour, 1)
}

// A packet cannot follow another within less than 10 ns, at 100 M packets/s. So the bucket decides only where a packet
// costs as much or more, and there the rate has to be met: for 400 Gbit/s that is from 500 bytes on.
func TestByteRateOverTheWholeRange(t *testing.T) {
	for rate := uint64(1514); rate <= 50_000_000_000; rate = rate*11/10 + 1 {
		for _, size := range []uint64{60, 64, 500, 594, 1514, 9014, 65_550} {
			if size*100_000_000 >= rate {
				exactRate(t, rate, time.Second, size)
			}
		}
	}
	for _, size := range []uint64{200, 500, 1514, 9014} {
		exactRate(t, 50_000_000_000, time.Second, size)
	}
}

// A bucket admits its burst at once, to the token, and then one token per token time.
func TestBurstIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Uint64Range(1, 50_000_000_000).Draw(t, "rate")
		cost := rapid.Uint64Range(1, 1514).Draw(t, "cost")
		packets := rapid.Uint64Range(1, 300).Draw(t, "packets")
		l := mustLimit(t, rate, time.Second, cost*packets)
		now := Ticks(rapid.Uint64().Draw(t, "now"))
		tat := now
		for i := range packets {
			next, admitted := l.Take(tat, now, cost)
			if !admitted {
				t.Fatalf("packet %d of %d was denied", i+1, packets)
			}
			tat = next
		}
		if l.Cost(cost) > Ticks(packets) { // what rounding each cost down leaves is less than one packet
			if _, admitted := l.Take(tat, now, cost); admitted {
				t.Fatalf("packet %d was admitted beyond the burst", packets+1)
			}
		}
	})
}

// Whatever the arrivals, no interval admits more than burst + rate * t, and no denial is wrong: the
// verdicts are those of exact arithmetic over the same token time.
func TestTakeAgreesWithExactArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := mustLimit(t, rapid.Uint64Range(1, 100_000_000).Draw(t, "rate"), time.Second, rapid.Uint64Range(1, 50).Draw(t, "burst"))
		start := Ticks(rapid.Uint64().Draw(t, "start"))
		gaps := rapid.SliceOfN(rapid.Uint64Range(0, 3*uint64(l.Cost(1))), 1, 200).Draw(t, "gaps")

		level := new(big.Int).SetUint64(uint64(l.Depth)) // what is in the bucket, in ticks
		now, tat := start, start
		for i, gap := range gaps {
			now += Ticks(gap)
			level.Add(level, new(big.Int).SetUint64(gap))
			if depth := new(big.Int).SetUint64(uint64(l.Depth)); level.Cmp(depth) > 0 {
				level = depth
			}
			cost := new(big.Int).SetUint64(l.TokenTime)
			want := level.Cmp(cost) >= 0
			if want {
				level.Sub(level, cost)
			}
			next, admitted := l.Take(tat, now, 1)
			if admitted != want {
				t.Fatalf("packet %d: admitted %v, exact arithmetic says %v", i, admitted, want)
			}
			tat = next
		}
	})
}

func TestWaitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := mustLimit(t, rapid.Uint64Range(1, 5_000_000_000).Draw(t, "rate"), time.Second, rapid.Uint64Range(1, 5000).Draw(t, "burst"))
		now := Ticks(rapid.Uint64().Draw(t, "now"))
		tat := now + Ticks(rapid.Uint64Range(0, uint64(l.Depth)).Draw(t, "debt"))
		cost := rapid.Uint64Range(1, l.Burst).Draw(t, "cost")
		wait := l.Wait(tat, now, cost)
		if _, admitted := l.Take(tat, now+wait, cost); !admitted {
			t.Fatal("denied after the wait")
		}
		if wait > 0 {
			if _, admitted := l.Take(tat, now+wait-1, cost); admitted {
				t.Fatal("admitted before the wait was over")
			}
		}
		if have := l.Tokens(tat, now); have > 0 {
			if _, admitted := l.Take(tat, now, have); !admitted {
				t.Fatalf("the bucket says that it holds %d tokens, and denies them", have)
			}
		}
	})
	l := mustLimit(t, 1, time.Second, 5)
	if got := l.Wait(0, 0, 6); got != Never {
		t.Errorf("Wait for more than the burst = %d, want Never", got)
	}
}

func TestClockGoesBackwards(t *testing.T) {
	l := mustLimit(t, 1000, time.Second, 10)
	now, back := Ticks(1<<40), Ticks(1<<40-50_000)
	tat := now
	admitted := 0
	for i := range 100 {
		at := now
		if i%2 == 1 {
			at = back // the other CPU's clock
		}
		next, ok := l.Take(tat, at, 1)
		if ok {
			admitted++
		}
		tat = next
	}
	if admitted != 10 {
		t.Errorf("admitted %d packets with clocks out of order, want the burst of 10", admitted)
	}
}

// The counter wraps after 2.28 years: a bucket in use must not notice, and one that was idle since
// long before must not be taken for one that owes.
func TestCounterWraps(t *testing.T) {
	l := mustLimit(t, 1000, time.Second, 10)
	now := ^Ticks(0) - l.Cost(1)*3
	tat := now
	admitted := 0
	for range 10_000 { // ten seconds in steps of 1 ms
		var ok bool
		if tat, ok = l.Take(tat, now, 1); ok {
			admitted++
		}
		now += l.Cost(1)
	}
	if admitted != 10_000 {
		t.Errorf("admitted %d of 10000 packets that kept to the rate across the wrap", admitted)
	}
	idleFor := Ticks(1<<63 + 1<<62)
	if debt := Debt(tat, tat+idleFor); debt != 0 {
		t.Errorf("a bucket that was idle for 1.7 years owes %v", debt.Duration())
	}
}

// A tightened policy must not hold a source to what an older one let it owe.
func TestDebtIsCutToTheDepth(t *testing.T) {
	slow := mustLimit(t, 10, 24*time.Hour, 10)
	fast := mustLimit(t, 1000, time.Second, 10)
	now := Ticks(1 << 50)
	tat, _ := slow.Take(now, now, 10)
	tat, admitted := fast.Take(tat, now, 1)
	if admitted || tat != now+fast.Depth {
		t.Fatalf("Take = %d, %v; want an empty bucket", tat-now, admitted)
	}
	if _, admitted = fast.Take(tat, now+fast.Cost(1), 1); !admitted {
		t.Error("denied one token time later")
	}
}

func TestNewLimitErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tokens uint64
		window time.Duration
		burst  uint64
	}{
		{"no tokens", 0, time.Second, 1},
		{"no window", 1, 0, 1},
		{"negative window", 1, -1, 1},
		{"no burst", 1, time.Second, 0},
		{"burst takes too long", 1, 24 * time.Hour, 105},
		{"burst overflows", 1, 24 * time.Hour, 1 << 63},
		{"token takes too long", 1, 1<<63 - 1, 1},
		{"too fast", 1 << 63, 1, 1},
		{"too fast and too large", 1 << 40, time.Second, 1 << 63},
	} {
		if l, err := NewLimit(tt.tokens, tt.window, tt.burst); err == nil {
			t.Errorf("%s: no error, but %+v", tt.name, l)
		}
	}
}

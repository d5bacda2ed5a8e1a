package bucket

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func newTable(t testing.TB, sets int) *Table {
	table, err := NewTable(make([]byte, sets*SetSize))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestNewTableErrors(t *testing.T) {
	mem := make([]byte, 2*SetSize)
	for name, mem := range map[string][]byte{
		"empty":              nil,
		"half a set":         mem[:SetSize/2],
		"not a power of two": make([]byte, 3*SetSize),
		"not aligned":        mem[4 : 4+SetSize],
	} {
		if _, err := NewTable(mem); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Sources that keep to their limit come and go, as a spoofed flood's do: each owes for one token time.
// The one that floods owes for longer, and must never be forgotten.
func TestSpoofedFloodEvictsNoDebt(t *testing.T) {
	table := newTable(t, 1<<18) // the default
	l := mustLimit(t, 1000, time.Second, 200)
	rnd := rand.New(rand.NewPCG(1, 1))
	const aggressor, gap, packets = uint64(0xabcdef << 32), Ticks(1000 << tickShift), 2_000_000
	now := Ticks(1 << 50)
	admitted := 0
	for i := range packets {
		now += gap // 1 Mpps
		if i%10 == 0 {
			if table.Take(aggressor, &l, now, 1, true)&Admitted != 0 {
				admitted++
			}
			continue
		}
		if got := table.Take(rnd.Uint64(), &l, now, 1, true); got != Admitted|Claimed {
			t.Fatalf("packet %d of a new source: flags %b", i, got)
		}
	}
	elapsed := (Ticks(packets) * gap).Duration()
	if want := 200 + int(elapsed.Milliseconds()); admitted < want-1 || admitted > want {
		t.Errorf("the aggressor got %d packets through in %v, want its limit of %d", admitted, elapsed, want)
	}
}

func TestFullSet(t *testing.T) {
	l := mustLimit(t, 1, time.Hour, 3)
	now := Ticks(1 << 50)
	fill := func() *Table {
		table := newTable(t, 1)
		for source := uint64(1); source <= SetWays; source++ {
			table.Take(source<<32, &l, now, min(source, 3), true)
		}
		return table
	}

	table := fill()
	if got := table.Take(9<<32, &l, now, 1, false); got != Pressure {
		t.Errorf("a newcomer that may not evict: flags %b, want Pressure alone", got)
	}
	if o := table.Occupancy(now); o.Owing != SetWays {
		t.Errorf("occupancy %+v, want all entries owing", o)
	}

	table = fill()
	if got := table.Take(9<<32, &l, now, 1, true); got != Admitted|Claimed|Pressure {
		t.Errorf("a newcomer that may evict: flags %b", got)
	}
	if _, ok := table.Lookup(1 << 32); ok {
		t.Error("the smallest debt is still there")
	}
	for source := uint64(2); source <= SetWays; source++ {
		if _, ok := table.Lookup(source << 32); !ok {
			t.Errorf("source %d was evicted, though source 1 owed less", source)
		}
	}
	if e, _ := table.Lookup(9 << 32); l.Tokens(e.TAT, now) != 2 {
		t.Errorf("the newcomer has %d tokens, want 2 of 3: it must not inherit a debt", l.Tokens(e.TAT, now))
	}
}

// A full bucket is worth keeping as long as there is an entry that nobody ever had, or an older one.
func TestVictimIsTheLongestIdle(t *testing.T) {
	table := newTable(t, 1)
	l := mustLimit(t, 1000, time.Second, 1)
	now := Ticks(1 << 50)
	for source := uint64(1); source <= SetWays; source++ {
		table.Take(source<<32, &l, now, 1, true)
		now += 10 * l.Cost(1)
	}
	table.Take(9<<32, &l, now, 1, true)
	if _, ok := table.Lookup(1 << 32); ok {
		t.Error("the longest idle source is still there")
	}
	if _, ok := table.Lookup(2 << 32); !ok {
		t.Error("a source was evicted that was idle for less long")
	}
}

func TestRefundAndReset(t *testing.T) {
	table := newTable(t, 4)
	l := mustLimit(t, 10, time.Second, 5)
	now := Ticks(1 << 50)
	for range 5 {
		table.Take(7<<32, &l, now, 1, true)
	}
	table.Refund(7<<32, &l, 2)
	e, _ := table.Lookup(7 << 32)
	if got := l.Tokens(e.TAT, now); got != 2 || e.Used != 3 {
		t.Errorf("after the refund: %d tokens, %d used; want 2 and 3", got, e.Used)
	}
	table.Refund(8<<32, &l, 2) // nobody there
	if !table.Reset(7<<32, now) || table.Reset(8<<32, now) {
		t.Error("Reset tells wrongly whether there was an entry")
	}
	e, _ = table.Lookup(7 << 32)
	if got := l.Tokens(e.TAT, now); got != 5 {
		t.Errorf("after the reset: %d tokens, want 5", got)
	}
}

// Several goroutines on one bucket admit no more and no less than one bucket.
func TestConcurrentTakesAdmitOneBucket(t *testing.T) {
	table := newTable(t, 1)
	l := mustLimit(t, 1, time.Minute, 10_000)
	var admitted, contended atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10_000 {
				got := table.Take(1<<32, &l, 1<<50, 1, true)
				if got&Admitted != 0 {
					admitted.Add(1)
				}
				if got&Contended != 0 {
					contended.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := admitted.Load(); got != 10_000 {
		t.Errorf("admitted %d, want the burst of 10000 (%d lost every swap)", got, contended.Load())
	}
	if e, _ := table.Lookup(1 << 32); e.Used != 10_000 {
		t.Errorf("used %d, want 10000", e.Used)
	}
}

func TestHash(t *testing.T) {
	key := DeriveKey(Secret{1, 2}, "per_ip", "per-client")
	addr := netip.MustParseAddr
	same := func(m Mask, a, b string) bool { return key.Hash(m, addr(a)) == key.Hash(m, addr(b)) }
	for _, tt := range []struct {
		a, b   string
		v4, v6 uint8
		same   bool
	}{
		{"192.0.2.1", "192.0.2.1", 32, 64, true},
		{"192.0.2.1", "192.0.2.2", 32, 64, false},
		{"192.0.2.1", "192.0.2.2", 24, 64, true},
		{"192.0.2.1", "192.0.3.1", 24, 64, false},
		{"192.0.2.1", "198.51.100.9", 0, 64, true},
		{"192.0.2.1", "::ffff:192.0.2.1", 32, 64, true},
		{"2001:db8::1", "2001:db8::2", 32, 64, true},
		{"2001:db8::1", "2001:db8:0:1::1", 32, 64, false},
		{"2001:db8::1", "2001:db8::2", 32, 128, false},
		{"2001:db8::1:0:0:1", "2001:db8::1:0:0:2", 32, 80, true},
		{"2001:db8::1:0:0:1", "2001:db8::2:0:0:1", 32, 80, false},
		{"192.0.2.1", "::c000:201", 32, 128, false}, // the same number, another family
	} {
		if got := same(NewMask(tt.v4, tt.v6), tt.a, tt.b); got != tt.same {
			t.Errorf("%s and %s under /%d and /%d: same bucket %v, want %v", tt.a, tt.b, tt.v4, tt.v6, got, tt.same)
		}
	}
	for _, other := range []HashKey{
		DeriveKey(Secret{1, 3}, "per_ip", "per-client"),
		DeriveKey(Secret{1, 2}, "global", "per-client"),
		DeriveKey(Secret{1, 2}, "per_ip", "per-client2"),
	} {
		if other == key {
			t.Error("secret, scope and name must each change the key")
		}
	}
}

// Addresses that differ little must not crowd a set: 2^16 neighbours in 2^14 sets of four.
func TestHashSpreadsNeighbours(t *testing.T) {
	for seed := range uint64(16) {
		key := DeriveKey(Secret{seed, 2}, "per_ip", "per-client")
		mask := NewMask(32, 64)
		load := make([]int, 1<<14)
		for i := range uint64(1 << 16) {
			load[key.Hash(mask, address(4, 0, 0x0a000000+i))&(1<<14-1)]++
		}
		most := 0
		for _, n := range load {
			most = max(most, n)
		}
		// Mean 4: chance puts 17 or so into the fullest set; more than 30 would be a pattern.
		if most > 30 {
			t.Errorf("seed %d: a set has %d of 65536 neighbouring addresses", seed, most)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	table := newTable(b, 1<<18)
	l := mustLimit(b, 1000, time.Second, 200)
	for name, mask := range map[string]uint64{"one source": 0, "all sources": ^uint64(0)} {
		b.Run(name, func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(1, 1))
			now := Ticks(1 << 50)
			b.ReportAllocs()
			for b.Loop() {
				now += 100 << tickShift
				table.Take(rnd.Uint64()&mask, &l, now, 1, true)
			}
		})
	}
}

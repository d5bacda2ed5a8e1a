package bucket

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func counterTable(t *testing.T, sets int) *Table {
	t.Helper()
	table, err := NewTable(make([]byte, sets*SetSize))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func at(d time.Duration) Ticks { return AtNanoseconds(uint64(d)) }

// TestCount: up to what the caller allows, until it expires, and given back.
func TestCount(t *testing.T) {
	table := counterTable(t, 1)
	const hash = 7 << 32
	now := at(time.Hour)
	count := func(n, most uint32, after, good time.Duration, hold bool) (Counting, Taken) {
		c := Counting{N: n, Most: most, Expires: now + at(after+good), Hold: hold}
		return c, table.Count(hash, now+at(after), &c)
	}
	expect := func(after time.Duration, want uint32, wantLeft time.Duration) {
		t.Helper()
		if got, left := table.Counted(hash, now+at(after)); got != want || left != at(wantLeft) {
			t.Fatalf("after %v: %d, good for %v; want %d for %v", after, got, left.Duration(), want, wantLeft)
		}
	}
	if c, flags := count(6, 5, 0, time.Second, false); flags != 0 || c.Count != 0 {
		t.Errorf("too many for an empty table: %+v, %b", c, flags)
	}
	first, flags := count(3, 5, 0, time.Second, false)
	if flags != Admitted|Claimed || first.Count != 3 {
		t.Errorf("%+v, %b", first, flags)
	}
	expect(0, 3, time.Second)
	if c, flags := count(3, 5, 100*time.Millisecond, time.Second, false); flags != 0 || c.Count != 3 {
		t.Errorf("%+v, %b", c, flags)
	}
	expect(0, 3, time.Second)
	second, flags := count(2, 5, 200*time.Millisecond, time.Second, false)
	if flags != Admitted || second.Count != 5 || second.Before != first.After {
		t.Errorf("%+v, %b", second, flags)
	}
	expect(time.Second, 5, 200*time.Millisecond)
	if !table.Uncount(hash, 2, second.Before, second.After) {
		t.Error("contended")
	}
	expect(0, 3, time.Second)
	if c, flags := count(3, 5, 300*time.Millisecond, time.Second, true); flags != 0 || c.Count != 3 {
		t.Errorf("%+v, %b", c, flags)
	}
	expect(0, 3, 1300*time.Millisecond) // held by a denial
	if !table.Uncount(hash, 4, 0, 0) || !table.Uncount(hash+1<<40, 1, 0, 0) {
		t.Error("contended")
	}
	expect(0, 3, 1300*time.Millisecond)
	expect(1300*time.Millisecond-1, 3, 1)
	expect(1300*time.Millisecond, 0, 0)
	if c, flags := count(5, 5, 2*time.Second, time.Second, false); flags != Admitted || c.Count != 5 {
		t.Errorf("expired counters begin at 0: %+v, %b", c, flags)
	}
}

// TestCountersAreEvicted by the rule of buckets: the one that expires first, and only if need be.
func TestCountersAreEvicted(t *testing.T) {
	table := counterTable(t, 1)
	now := at(time.Hour)
	for i := range uint64(4) {
		c := Counting{N: 1, Most: 1, Expires: now + at(time.Duration(i+1)*time.Second)}
		if flags := table.Count((i+1)<<32, now, &c); flags != Admitted|Claimed {
			t.Fatalf("%b", flags)
		}
	}
	c := Counting{N: 1, Most: 1, Expires: now + at(time.Minute)}
	if flags := table.Count(9<<32, now, &c); flags != Pressure || !table.Pressed(9<<32, now) || table.Pressed(1<<32, now) {
		t.Errorf("%b", flags)
	}
	if table.Pressed(9<<32, now+at(time.Second+1)) {
		t.Error("one has expired")
	}
	c.EvictDebt = true
	if flags := table.Count(9<<32, now, &c); flags != Admitted|Claimed|Pressure {
		t.Errorf("%b", flags)
	}
	for i, want := range []uint32{0, 1, 1, 1} {
		if got, _ := table.Counted(uint64(i+1)<<32, now); got != want {
			t.Errorf("counter %d: %d", i, got)
		}
	}
}

// TestCountStorm: many count and uncount the same few counters; what is there at the end is what was left,
// and no count was ever above what was allowed.
func TestCountStorm(t *testing.T) {
	const most, counters = 20, 3
	table := counterTable(t, 1)
	var balance [counters]atomic.Int64
	var all sync.WaitGroup
	for g := range 8 {
		rng := rand.New(rand.NewPCG(uint64(g), 1))
		all.Go(func() {
			var mine [counters]uint32
			for i := range 3000 {
				which := rng.IntN(counters)
				hash, now := uint64(which+1)<<32, at(time.Hour+time.Duration(i))
				if mine[which] > 0 && rng.IntN(2) == 0 {
					for !table.Uncount(hash, 1, 0, 0) {
					}
					mine[which]--
					balance[which].Add(-1)
					continue
				}
				c := Counting{N: 1, Most: most, Expires: now + at(time.Second)}
				if table.Count(hash, now, &c)&Admitted == 0 {
					continue
				}
				if c.Count > most || c.Count == 0 {
					t.Errorf("%d of %d", c.Count, most)
				}
				mine[which]++
				balance[which].Add(1)
			}
		})
	}
	all.Wait()
	for i := range balance {
		if got, _ := table.Counted(uint64(i+1)<<32, at(time.Hour)); int64(got) != balance[i].Load() {
			t.Errorf("counter %d: %d, want %d", i, got, balance[i].Load())
		}
	}
}

package bucket

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestAdjust(t *testing.T) {
	l := mustLimit(t, 1000, time.Second, 10) // a token is 1 ms, the depth 10
	ms := AtNanoseconds(1e6)
	for name, tt := range map[string]struct {
		tat, now Ticks
		delta    int64
		debt     Ticks
		applied  int64
	}{
		"a full bucket":                {tat: 5, now: 1000 * ms, delta: int64(3 * ms), debt: 3 * ms, applied: int64(3 * ms)},
		"one that owes":                {tat: 1004 * ms, now: 1000 * ms, delta: int64(3 * ms), debt: 7 * ms, applied: int64(3 * ms)},
		"beyond the depth":             {tat: 1004 * ms, now: 1000 * ms, delta: int64(20 * ms), debt: 24 * ms, applied: int64(20 * ms)},
		"to the slack":                 {tat: 1004 * ms, now: 1000 * ms, delta: math.MaxInt64, debt: 10*ms + AdjustSlack, applied: int64(6*ms + AdjustSlack)},
		"paced beyond it":              {tat: 3000 * ms, now: 1000 * ms, delta: 1, debt: 2000 * ms},
		"relief":                       {tat: 1004 * ms, now: 1000 * ms, delta: -int64(3 * ms), debt: 1 * ms, applied: -int64(3 * ms)},
		"no more than is owed":         {tat: 1004 * ms, now: 1000 * ms, delta: -int64(5 * ms), debt: 0, applied: -int64(4 * ms)},
		"all there is":                 {tat: 1004 * ms, now: 1000 * ms, delta: math.MinInt64, debt: 0, applied: -int64(4 * ms)},
		"of a full one":                {tat: 5, now: 1000 * ms, delta: -5, debt: 0},
		"nothing":                      {tat: 1004 * ms, now: 1000 * ms, debt: 4 * ms},
		"from before the clock wraps":  {tat: 1 * ms, now: ^ms + 1, delta: int64(ms), debt: 3 * ms, applied: int64(ms)},
		"a TAT from before it wrapped": {tat: 1<<62 + 1000*ms, now: 1000 * ms, delta: int64(ms), debt: ms, applied: int64(ms)},
	} {
		next, applied := l.Adjust(tt.tat, tt.now, tt.delta)
		if Debt(next, tt.now) != tt.debt || applied != tt.applied {
			t.Errorf("%s: owes %d with %d applied, want %d with %d", name, Debt(next, tt.now), applied, tt.debt, tt.applied)
		}
		if applied == 0 && next != tt.tat {
			t.Errorf("%s: nothing was applied, and the TAT is %d", name, next)
		}
	}
}

// The slack survives charges: by a CPU that is late by less than it, too.
func TestWhatIsOwedBeyondTheDepthIsNotCut(t *testing.T) {
	l := mustLimit(t, 1000, time.Second, 10)
	now := Ticks(1) << 40
	tat, _ := l.Adjust(now, now, math.MaxInt64)
	for _, late := range []Ticks{0, 1, AdjustSlack / 2, AdjustSlack} {
		if next, admitted := l.Take(tat, now-late, 1); admitted || next != tat {
			t.Errorf("a CPU that is late by %v: admitted %v, TAT moved by %d", late.Duration(), admitted, int64(next-tat))
		}
	}
	if _, admitted := l.Take(tat, tat-l.Depth+l.Cost(1), 1); !admitted {
		t.Error("denied when the debt had run out")
	}
}

func TestTableAdjust(t *testing.T) {
	table, err := NewTable(make([]byte, SetSize))
	if err != nil {
		t.Fatal(err)
	}
	l := mustLimit(t, 1000, time.Second, 10)
	now := Ticks(1) << 40
	if _, found := table.Adjust(1<<32, &l, now, int64(l.Depth)); found || table.Occupancy(now).Claimed != 0 {
		t.Error("a source without an entry was adjusted")
	}
	table.Take(1<<32, &l, now, 4, true)
	if applied, found := table.Adjust(1<<32, &l, now, int64(l.Cost(5))); !found || applied != int64(l.Cost(5)) {
		t.Errorf("applied %d, found %v", applied, found)
	}
	e, _ := table.Lookup(1 << 32)
	if e.Used != 4 || Debt(e.TAT, now) != l.Cost(9) {
		t.Errorf("%d used, owes %d; want 4, and 9 tokens", e.Used, Debt(e.TAT, now))
	}
	if table.Take(1<<32, &l, now, 1, true)&Admitted == 0 || table.Take(1<<32, &l, now, 1, true)&Admitted != 0 {
		t.Error("want one more token, and no second one")
	}
}

// Whatever comes at once, no tick is lost or made: adjustments, charges and refunds of one source.
func TestAdjustIsExactUnderContention(t *testing.T) {
	table, err := NewTable(make([]byte, SetSize))
	if err != nil {
		t.Fatal(err)
	}
	l := mustLimit(t, 1, time.Second, 1<<20)
	now := Ticks(1) << 40
	table.Take(1<<32, &l, now, 1, true)
	var wait sync.WaitGroup
	sums := make([]int64, max(2, runtime.NumCPU()))
	for i := range sums {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 50_000 {
				switch random.IntN(4) {
				case 0:
					if table.Take(1<<32, &l, now, 2, true)&Admitted != 0 {
						sums[i] += int64(l.Cost(2))
					}
				case 1:
					applied, _ := table.Adjust(1<<32, &l, now, -random.Int64N(1<<33))
					sums[i] += applied
				default:
					applied, _ := table.Adjust(1<<32, &l, now, random.Int64N(1<<33))
					sums[i] += applied
				}
			}
		})
	}
	wait.Wait()
	want := int64(l.Cost(1))
	for _, s := range sums {
		want += s
	}
	if e, _ := table.Lookup(1 << 32); int64(Debt(e.TAT, now)) != want {
		t.Errorf("owes %d ticks, want %d", Debt(e.TAT, now), want)
	}
}

func TestShareShift(t *testing.T) {
	for _, tt := range []struct {
		limit    uint64
		window   time.Duration
		interval time.Duration
		nodes    int
		want     uint8
	}{
		{1000, time.Second, 100 * time.Millisecond, 3, 5},    // 33
		{1000, time.Second, 100 * time.Millisecond, 1, 6},    // 100
		{1000, time.Second, 128 * time.Millisecond, 1, 7},    // 128
		{10, time.Second, 100 * time.Millisecond, 3, 0},      // a third
		{1, time.Hour, 100 * time.Millisecond, 0, 0},         // nodes unknown
		{50e9, time.Second, 100 * time.Millisecond, 2, 31},   // 400 Gbit/s in bytes: 2.5e9
		{50e9, time.Second, 100 * time.Millisecond, 20, 27},  // 250e6
		{50e9, time.Second, time.Hour, 1, 31},                // all there is
		{1000, time.Second, 0, 3, 0},                         // no interval
		{1000, time.Second, 100 * time.Millisecond, 1000, 0}, // 0.1
	} {
		l := mustLimit(t, tt.limit, tt.window, 1000)
		got := l.ShareShift(tt.interval, tt.nodes)
		if got != tt.want {
			t.Errorf("%d per %v, %v, %d nodes: 2^%d, want 2^%d", tt.limit, tt.window, tt.interval, tt.nodes, got, tt.want)
		}
	}
}

func TestUsedSince(t *testing.T) {
	for _, tt := range []struct{ before, now, want uint32 }{
		{0, 0, 0}, {5, 5, 0}, {5, 9, 4},
		{math.MaxUint32 - 1, 3, 5}, // wrapped
		{1_000_000, 999_990, 0},    // refunded
		{1_000_000, 12, 12},        // claimed anew
		{3, 1, 1},
	} {
		if got := UsedSince(tt.before, tt.now); got != tt.want {
			t.Errorf("from %d to %d: %d, want %d", tt.before, tt.now, got, tt.want)
		}
	}
}

package nodes

import (
	"math"
	"slices"
	"testing"
	"time"
)

// admission is one admitted request: it was decided between the two instants.
type admission struct{ asked, answered time.Duration }

// excess is the most that was admitted in any interval beyond rate times its length: what is to be at most the burst.
// Intervals are taken as long as they may have been.
func excess(all []admission, rate float64) float64 {
	slices.SortFunc(all, func(a, b admission) int { return int(a.answered - b.answered) })
	least, most := math.Inf(1), math.Inf(-1)
	for i, a := range all {
		least = min(least, float64(i)-rate*a.asked.Seconds())
		most = max(most, float64(i+1)-rate*a.answered.Seconds()-least)
	}
	return most
}

func TestExcess(t *testing.T) {
	at := func(ms ...int) (all []admission) {
		for _, n := range ms {
			all = append(all, admission{time.Duration(n) * time.Millisecond, time.Duration(n) * time.Millisecond})
		}
		return all
	}
	for _, c := range []struct {
		all  []admission
		rate float64
		want float64
	}{
		{at(0, 0, 0), 10, 3},
		{at(0, 0, 0, 1000), 10, 3},
		{at(0, 100, 200, 300), 10, 1},
		{at(0, 50, 100, 150, 200), 10, 3},
	} {
		if got := excess(c.all, c.rate); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v at %v/s: %v beyond the rate, want %v", c.all, c.rate, got, c.want)
		}
	}
	if got := excess([]admission{{0, time.Second}, {0, time.Second}}, 2); got > 2 {
		t.Errorf("two, sometime in a second, at 2/s: %v", got)
	}
}

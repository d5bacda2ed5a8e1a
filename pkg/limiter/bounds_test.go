package limiter

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// drawRate draws limits whose arrivals a test can go through one by one.
func drawRate(t *rapid.T) (limit uint64, window time.Duration) {
	limit = rapid.OneOf(rapid.Uint64Range(1, 4), rapid.Uint64Range(1, 50)).Draw(t, "limit")
	return limit, rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 1_000_003, 7777777 * time.Nanosecond, 24 * time.Hour}).Draw(t, "window")
}

// run lets arrivals come, and returns what was admitted.
func (r *ruled) run(t *rapid.T, limit uint64, window time.Duration, most uint64) (all []passed, demand map[uint64]uint64) {
	demand = map[uint64]uint64{}
	for range rapid.IntRange(1, 150).Draw(t, "arrivals") {
		r.advance(drawGap(t, r.fakeClock, limit, window))
		hits := rapid.Uint64Range(1, most).Draw(t, "hits")
		demand[uint64(r.unix/window)] += hits
		if o := r.take(hits); o.Admitted {
			all = append(all, passed{r.unix + o.Delay, hits})
		}
	}
	return all, demand
}

// mostHits is 1 half of the time, so that single hits are well covered.
func mostHits(t *rapid.T, limit uint64) uint64 {
	return rapid.SampledFrom([]uint64{1, limit}).Draw(t, "most")
}

// TestTokenBucketBound: at most burst + rate * t in any interval t.
func TestTokenBucketBound(t *testing.T) {
	var most float64
	rapid.Check(t, func(t *rapid.T) {
		limit, window := drawRate(t)
		burst := rapid.Uint64Range(1, 2*limit).Draw(t, "burst")
		c := newFakeClock()
		c.drawPhase(t, window)
		r := newRuled(t, c, policy.AlgorithmTokenBucket, limit, window, burst)
		exact, err := bucket.NewLimit(limit, window, burst)
		if err != nil {
			t.Fatal(err)
		}
		all, _ := r.run(t, limit, window, mostHits(t, burst))
		share, from, to, n := worst(all, func(d time.Duration) float64 {
			return float64(burst + uint64(d)<<8/exact.TokenTime)
		})
		if most = max(most, share); share > 1 {
			t.Fatalf("%d admitted from %v to %v, with a burst of %d and %d per %v", n, from.at, to.at, burst, limit, window)
		}
	})
	t.Logf("worst: %.4f of burst + rate*t", most)
}

// aligned sums what was admitted by aligned windows.
func aligned(all []passed, window time.Duration) map[uint64]uint64 {
	sums := map[uint64]uint64{}
	for _, p := range all {
		sums[uint64(p.at/window)] += p.hits
	}
	return sums
}

// TestSlidingWindowBound: at most limit in an aligned window, and limit + limit * t/window in any t.
func TestSlidingWindowBound(t *testing.T) {
	var most float64
	rapid.Check(t, func(t *rapid.T) {
		limit, window := drawRate(t)
		c := newFakeClock()
		c.drawPhase(t, window)
		r := newRuled(t, c, policy.AlgorithmSlidingWindow, limit, window, limit)
		all, _ := r.run(t, limit, window, mostHits(t, limit))
		for number, sum := range aligned(all, window) {
			if sum > limit {
				t.Fatalf("%d of %d admitted in window %d", sum, limit, number)
			}
		}
		share, from, to, n := worst(all, func(d time.Duration) float64 {
			return float64(limit) * (1 + float64(d)/float64(window))
		})
		if most = max(most, share); share > 1+1e-12 {
			t.Fatalf("%d admitted from %v to %v, with %d per %v", n, from.at, to.at, limit, window)
		}
	})
	t.Logf("worst: %.4f of limit + limit*t/window", most)
}

// TestSlidingWindowIsUsable: who always asks gets 99 % of the limit, however small that is; and who asks
// hardly more often than the limit allows, nearly what a log of all instants would give.
func TestSlidingWindowIsUsable(t *testing.T) {
	const window, windows = time.Minute, 100
	for _, limit := range []uint64{1, 2, 3, 5, 10, 100, 1000} {
		for _, c := range []struct{ demand, want float64 }{{1.1, 0.84}, {2, 0.99}, {10, 0.99}} {
			clock := newFakeClock()
			clock.advance(window * 3 / 10)
			r := newRuled(t, clock, policy.AlgorithmSlidingWindow, limit, window, limit)
			gap := time.Duration(float64(window) / float64(limit) / c.demand)
			admitted, logged := 0, []time.Duration{}
			for start := r.unix; r.unix < start+windows*window; r.advance(gap) {
				if r.take(1).Admitted {
					admitted++
				}
				if n := len(logged); n < int(limit) || logged[n-int(limit)] <= r.unix-window {
					logged = append(logged, r.unix)
				}
			}
			share := float64(admitted) / float64(len(logged))
			t.Logf("limit %d, demand of %.1f times the limit: %d admitted, %.4f of what a log would", limit, c.demand, admitted, share)
			if share < c.want || share > 1.01 {
				t.Errorf("limit %d, demand of %.1f times the limit: %.4f of what a log would admit", limit, c.demand, share)
			}
		}
	}
}

// TestFixedWindowIsExact: min(demand, limit) in each aligned window.
func TestFixedWindowIsExact(t *testing.T) {
	var most float64
	rapid.Check(t, func(t *rapid.T) {
		limit, window := drawRate(t)
		c := newFakeClock()
		c.drawPhase(t, window)
		r := newRuled(t, c, policy.AlgorithmFixedWindow, limit, window, limit)
		all, demand := r.run(t, limit, window, 1)
		got := aligned(all, window)
		for number, asked := range demand {
			if want := min(asked, limit); got[number] != want {
				t.Fatalf("window %d: %d admitted of %d asked, want %d", number, got[number], asked, want)
			}
		}
		share, _, _, _ := worst(all, func(d time.Duration) float64 {
			return float64(limit) * float64((d+window-1)/window+1)
		})
		most = max(most, share)
		if share > 1 {
			t.Fatalf("%.3f of the bound", share)
		}
	})
	t.Logf("worst: %.4f of (ceil(t/window) + 1) limit", most)
}

// TestLeakyBucketBound: what is admitted goes on at most 1 + rate * t times in any interval t, and no more
// than burst wait. Of queries of several hits the largest takes the place of the 1.
func TestLeakyBucketBound(t *testing.T) {
	var share float64
	longest := 0
	rapid.Check(t, func(t *rapid.T) {
		limit, window := drawRate(t)
		burst := rapid.Uint64Range(1, 2*limit).Draw(t, "burst")
		most := mostHits(t, burst)
		c := newFakeClock()
		c.drawPhase(t, window)
		r := newRuled(t, c, policy.AlgorithmLeakyBucket, limit, window, burst)
		exact, err := bucket.NewLimit(limit, window, burst)
		if err != nil {
			t.Fatal(err)
		}
		var all []passed
		for range rapid.IntRange(1, 150).Draw(t, "arrivals") {
			r.advance(drawGap(t, r.fakeClock, limit, window))
			hits := rapid.Uint64Range(1, most).Draw(t, "hits")
			o := r.take(hits)
			if !o.Admitted {
				continue
			}
			if len(all) > 0 && r.unix+o.Delay < all[len(all)-1].at {
				t.Fatal("one overtook another")
			}
			all = append(all, passed{r.unix + o.Delay, hits})
			waiting := uint64(0)
			for _, p := range all {
				if p.at > r.unix {
					waiting += p.hits
				}
			}
			// A query of several hits leaves the queue at once, though its hits leave it one by one.
			if longest = max(longest, int(waiting)); waiting > burst && most == 1 {
				t.Fatalf("%d wait in a queue of %d", waiting, burst)
			}
			// The last leaves within the time that a full queue takes.
			if o.Delay > (exact.Depth-exact.Cost(1)).Duration()+1 {
				t.Fatalf("a delay of %v", o.Delay)
			}
		}
		slices.SortFunc(all, func(a, b passed) int { return int(a.at - b.at) })
		s, from, to, n := worst(all, func(d time.Duration) float64 {
			return float64(most + uint64(d+1)<<8/exact.TokenTime) // instants are rounded up to 1 ns
		})
		if share = max(share, s); s > 1 {
			t.Fatalf("%d left from %v to %v, at %d per %v in hits of up to %d", n, from.at, to.at, limit, window, most)
		}
	})
	t.Logf("worst: %.4f of 1 + rate*t; %d in the longest queue", share, longest)
}

// place is one in flight.
type place struct {
	o     Outcome
	hits  uint64
	since time.Duration
	lost  bool
}

// TestConcurrencyIsExact while all that is in flight ends within a window; and what is never released is
// forgotten between one and two windows after.
func TestConcurrencyIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, window := drawRate(t)
		c := newFakeClock()
		c.drawPhase(t, window)
		if rapid.Bool().Draw(t, "near the wrap") {
			c.up = cycle - 2*window - time.Duration(rapid.Int64Range(0, int64(window)).Draw(t, "before"))
		}
		r := newRuled(t, c, policy.AlgorithmConcurrency, limit, window, limit)
		var places []place
		for range rapid.IntRange(1, 150).Draw(t, "arrivals") {
			gap := drawGap(t, c, limit, window) / 4
			// What would be held for longer than a window ends before.
			places = slices.DeleteFunc(places, func(p place) bool {
				if age := c.up - p.since; p.lost {
					return age+gap > 3*window
				} else if age+gap < window {
					return false
				}
				r.refund(Outcome{Grant: p.o.Grant}, p.hits)
				return true
			})
			r.advance(gap)
			if len(places) > 0 && rapid.Bool().Draw(t, "ends") {
				if p := places[0]; !p.lost {
					r.refund(Outcome{Grant: p.o.Grant}, p.hits)
					places = places[1:]
				}
				continue
			}
			hits := rapid.Uint64Range(1, mostHits(t, limit)).Draw(t, "hits")
			var surely, maybe uint64
			for _, p := range places {
				switch age := c.up - p.since; {
				case !p.lost || age < window:
					surely += p.hits
				case age < 2*window:
					maybe += p.hits
				}
			}
			o := r.take(hits)
			switch {
			case o.Admitted && surely+hits > limit:
				t.Fatalf("%d admitted beside %d of %d", hits, surely, limit)
			case !o.Admitted && surely+maybe+hits <= limit && c.up < cycle-2*window:
				t.Fatalf("%d denied beside %d and perhaps %d of %d", hits, surely, maybe, limit)
			}
			if o.Admitted {
				places = append(places, place{o, hits, c.up, rapid.IntRange(0, 3).Draw(t, "lost") == 0})
			}
		}
	})
}

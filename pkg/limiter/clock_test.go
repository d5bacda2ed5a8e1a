package limiter

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestWallClockIsSet back and forth by hours: what counts by the wall clock grants at most one limit more
// for each time that it is set, denies nobody for longer than a window, and what does not count by it does not notice.
func TestWallClockIsSet(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		rapid.Check(t, func(t *rapid.T) {
			r, limit, burst, window := drawRuled(t, a)
			since, admitted, sets := r.up, uint64(0), uint64(0)
			for range rapid.IntRange(1, 80).Draw(t, "arrivals") {
				r.advance(drawGap(t, r.fakeClock, limit, window) / 4)
				if rapid.IntRange(0, 9).Draw(t, "set") == 0 {
					r.unix += time.Duration(rapid.IntRange(-5000, 5000).Draw(t, "by")) * window / 1000
					sets++
				}
				o := r.take(1)
				if o.Admitted {
					admitted++
				} else if o.RetryAfter > 2*window || o.RetryAfter <= 0 || o.ResetAfter > 2*window && !bucketed(a) {
					t.Fatalf("%+v", o)
				}
			}
			most := burst + uint64((r.up-since)/(window/time.Duration(limit))) + limit
			if a == policy.AlgorithmSlidingWindow || a == policy.AlgorithmFixedWindow {
				most += (sets + 1) * limit
			}
			if admitted > most && a != policy.AlgorithmConcurrency {
				t.Fatalf("%d admitted, with the clock set %d times, of at most %d", admitted, sets, most)
			}
			// Whatever happened, two windows later nothing is owed.
			r.advance(2*window + time.Duration(burst/limit)*window)
			if o := r.peek(burst); !o.Admitted {
				t.Fatalf("later %+v", o)
			}
		})
	})
}

// TestSetBackByAnHour: the windows of the last hour come again, and are not full from the last time.
func TestSetBackByAnHour(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.AlgorithmFixedWindow, policy.AlgorithmSlidingWindow} {
		c := newFakeClock()
		r := newRuled(t, c, a, 5, time.Minute, 5)
		fill := func() (n int) {
			for r.take(1).Admitted {
				n++
			}
			return n
		}
		for range 60 {
			fill()
			c.advance(time.Minute)
		}
		c.unix -= time.Hour
		for i := range 60 {
			if n := fill(); n != 5 {
				t.Fatalf("%s: %d of 5 in minute %d of the hour that came again", a, n, i)
			}
			c.advance(time.Minute)
		}
	}
}

// TestTenYears: ticks wrap every 2.28 years, and nobody notices.
func TestTenYears(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		c := newFakeClock()
		const limit, window = 10, 100 * time.Millisecond
		r := newRuled(t, c, a, limit, window, limit)
		for _, start := range []time.Duration{cycle - window, 2*cycle - window - 1, 4*cycle - 3*window/2, 10 * 365 * 24 * time.Hour} {
			c.up = start
			for range 40 {
				n := 0
				for r.take(1).Admitted {
					n++
				}
				if n > limit || a == policy.AlgorithmFixedWindow && n != 0 && n != limit {
					t.Fatalf("%d at %v", n, c.up)
				}
				c.advance(window / 10)
			}
			c.advance(3 * window)
			if o := r.peek(limit); !o.Admitted || o.ResetAfter != 0 {
				t.Fatalf("after %v: %+v", start, o)
			}
		}
	})
}

// TestPlacesAreKeptOverTheWrap: what is in flight when ticks wrap stays so for a window.
func TestPlacesAreKeptOverTheWrap(t *testing.T) {
	for _, window := range []time.Duration{100 * time.Millisecond, 7 * time.Second, time.Hour, 24 * time.Hour} {
		for _, before := range []time.Duration{1, window / 3, window - 1, window} {
			c := newFakeClock()
			c.up = cycle - before
			r := newRuled(t, c, policy.AlgorithmConcurrency, 2, window, 2)
			one, two := r.take(1), r.take(1)
			for range 10 {
				if r.take(1).Admitted {
					t.Fatalf("window %v, %v before the wrap: a third", window, before)
				}
				c.advance((window - 1) / 10)
			}
			r.refund(Outcome{Grant: one.Grant}, 1)
			if o := r.peek(1); o.Remaining != 1 {
				t.Fatalf("window %v, %v before the wrap: %+v", window, before, o)
			}
			r.refund(Outcome{Grant: two.Grant}, 1)
			if o := r.peek(1); o.Remaining != 2 {
				t.Fatalf("window %v, %v before the wrap: %+v", window, before, o)
			}
		}
	}
}

// TestMachineClock: it goes on, by both clocks alike, for everybody.
func TestMachineClock(t *testing.T) {
	c := newClock()
	if off := time.Since(time.Unix(0, int64(c.now().Unix))); off < 0 || off > time.Second {
		t.Errorf("the wall clock is off by %v", off)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			last := c.now()
			for range 20000 {
				now := c.now()
				if int64(now.Ticks-last.Ticks) < 0 {
					t.Error("ticks ran back")
				}
				if now.Ticks.Duration() < firstInstant {
					t.Error("before the first instant")
				}
				last = now
			}
		})
	}
	all.Wait()
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want bucket.Ticks
	}{{-1, 0}, {0, 0}, {1, 256}, {1 << 53, bucket.DepthMax}, {1<<53 + 1, bucket.DepthMax}, {1 << 56, bucket.DepthMax}, {Never, bucket.DepthMax}} {
		if got := ticks(c.d); got != c.want {
			t.Errorf("%v: %d, want %d", c.d, got, c.want)
		}
	}
}

// TestWindowOfAYear: who keeps asking gets no more than the limit in it, though the table forgets what nobody
// asks for after 104 days. A sliding window, which would not notice, may not be so long.
func TestWindowOfAYear(t *testing.T) {
	const day, year = 24 * time.Hour, 366 * 24 * time.Hour
	c := newFakeClock()
	c.unix = 100 * year
	r := newRuled(t, c, policy.AlgorithmFixedWindow, 5, year, 5)
	admitted := 0
	for ; c.unix < 101*year; c.advance(50 * day) {
		for r.take(1).Admitted {
			admitted++
		}
	}
	if admitted != 5 || !r.peek(5).Admitted {
		t.Errorf("%d in a year, and then %+v", admitted, r.peek(5))
	}
	for _, a := range []policy.Algorithm{policy.AlgorithmSlidingWindow, policy.AlgorithmConcurrency} {
		if _, err := r.NewRule(policy.Policy{Name: "r", Algorithm: a, Limit: 5, Window: year}); err == nil {
			t.Errorf("%s took it", a)
		}
	}
	if _, err := r.NewRule(policy.Policy{Name: "r", Algorithm: policy.AlgorithmFixedWindow, Limit: 5, Window: year + 1}); err == nil {
		t.Error("a longer one was taken")
	}
}

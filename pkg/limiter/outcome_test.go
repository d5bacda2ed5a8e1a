package limiter

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/policy"
)

// drawRuled draws one bucket of an algorithm.
func drawRuled(t *rapid.T, a policy.Algorithm) (r *ruled, limit, burst uint64, window time.Duration) {
	limit, window = drawRate(t, a)
	burst = limit
	if bucketed(a) {
		burst = rapid.Uint64Range(1, 2*limit).Draw(t, "burst")
	}
	c := newFakeClock()
	c.drawPhase(t, window)
	return newRuled(t, c, a, limit, window, burst), limit, burst, window
}

// drawHits draws what may be more than a bucket holds.
func drawHits(t *rapid.T, burst uint64) uint64 {
	return rapid.OneOf(rapid.Just(uint64(1)), rapid.Uint64Range(1, burst), rapid.Uint64Range(1, burst+2)).Draw(t, "hits")
}

// TestPeekSaysWhatTakeSays, and what both say about time is so: RetryAfter, ResetAfter.
func TestPeekSaysWhatTakeSays(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		rapid.Check(t, func(t *rapid.T) {
			r, limit, burst, window := drawRuled(t, a)
			for range rapid.IntRange(1, 60).Draw(t, "arrivals") {
				r.advance(drawGap(t, r.fakeClock, limit, window))
				hits := drawHits(t, burst)
				before, peeked := r.peek(1), r.peek(hits)
				took := r.take(hits)
				if peeked.Admitted != took.Admitted || peeked.RetryAfter != took.RetryAfter || peeked.Delay != took.Delay {
					t.Fatalf("%d hits: Peek says %+v, Take %+v", hits, peeked, took)
				}
				left := before.Remaining
				if took.Admitted {
					left -= hits
				}
				if took.Remaining != left || took.Remaining != r.peek(1).Remaining {
					t.Fatalf("%d hits of %d: %+v, then %+v", hits, before.Remaining, took, r.peek(1))
				}
				if want := hits <= before.Remaining; took.Admitted != want {
					t.Fatalf("%d hits, %d remained: %+v", hits, before.Remaining, took)
				}
				r.checkTimes(t, a, took, hits, burst)
			}
		})
	})
}

func (r *ruled) checkTimes(t *rapid.T, a policy.Algorithm, o Outcome, hits, burst uint64) {
	switch {
	case o.Admitted && o.RetryAfter != 0, !o.Admitted && o.RetryAfter <= 0, !o.Admitted && o.Delay != 0:
		t.Fatalf("%+v", o)
	case (o.RetryAfter == Never) != (hits > burst):
		t.Fatalf("%d hits of a burst of %d: %+v", hits, burst, o)
	case o.ResetAfter < 0 || (o.ResetAfter == 0) != (r.peek(1).Remaining == burst && o.ResetAfter == 0):
		t.Fatalf("%+v", o)
	}
	if !o.Admitted && o.RetryAfter != Never && a != policy.AlgorithmConcurrency {
		r.at(o.RetryAfter, func() {
			if got := r.peek(hits); !got.Admitted {
				t.Fatalf("%d hits: %+v; and then %+v", hits, o, got)
			}
		})
		if o.RetryAfter > time.Microsecond {
			r.at(o.RetryAfter-time.Microsecond, func() {
				if got := r.peek(hits); got.Admitted {
					t.Fatalf("%d hits: %+v; and 1 us before that %+v", hits, o, got)
				}
			})
		}
	}
	r.at(o.ResetAfter, func() {
		if got := r.peek(1); got.Remaining != burst || got.ResetAfter != 0 {
			t.Fatalf("%+v; and then %+v", o, got)
		}
	})
	if o.ResetAfter > time.Microsecond {
		r.at(o.ResetAfter-time.Microsecond, func() {
			if got := r.peek(1); got.ResetAfter == 0 {
				t.Fatalf("%+v; and 1 us before that %+v", o, got)
			}
		})
	}
}

// TestRefundRestoresExactly: of two buckets that are asked the same, one is asked some things more, and
// refunds them; nobody can tell them apart.
func TestRefundRestoresExactly(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		rapid.Check(t, func(t *rapid.T) {
			r, limit, burst, window := drawRuled(t, a)
			twin := newRuled(t, r.fakeClock, a, limit, window, burst)
			for range rapid.IntRange(1, 60).Draw(t, "arrivals") {
				r.advance(drawGap(t, r.fakeClock, limit, window))
				var took []Outcome
				var of []uint64
				for range rapid.IntRange(0, 3).Draw(t, "denied by others") {
					hits := drawHits(t, burst)
					if o := r.take(hits); o.Admitted {
						took, of = append(took, o), append(of, hits)
					}
				}
				for i := len(took) - 1; i >= 0; i-- {
					r.refund(took[i], of[i])
				}
				hits := drawHits(t, burst)
				got, want := r.take(hits), twin.take(hits)
				if got.Found = want.Found; got != want {
					t.Fatalf("%d hits: %+v, and without refunds %+v", hits, got, want)
				}
			}
		})
	})
}

// TestResetFills whatever was taken.
func TestResetFills(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		rapid.Check(t, func(t *rapid.T) {
			r, limit, burst, window := drawRuled(t, a)
			for range rapid.IntRange(1, 30).Draw(t, "arrivals") {
				r.advance(drawGap(t, r.fakeClock, limit, window))
				r.take(drawHits(t, burst))
			}
			r.rule.algorithm.Reset(r.bucket(), r.now())
			if o := r.peek(burst); !o.Admitted || o.Remaining != burst || o.ResetAfter != 0 {
				t.Fatalf("%+v", o)
			}
		})
	})
}

// TestHits: 0 ask and take nothing, more than a bucket holds will never pass.
func TestHits(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		l := newLimiter(t, newFakeClock(), policy.Policy{Name: "p", Scope: policy.ScopePerUser, Algorithm: a, Limit: 10, Window: time.Second})
		ask := func(hits uint64) Result {
			t.Helper()
			r, err := l.Check(t.Context(), Query{Request: &RequestContext{UserID: "u"}, Hits: hits})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for range 20 {
			if r := ask(0); !r.Allowed || r.Remaining != 10 || r.Releases() {
				t.Fatalf("a question: %+v", r)
			}
		}
		if r := ask(11); r.Allowed || r.RetryAfter != Never || r.Remaining != 10 {
			t.Errorf("too many: %+v", r)
		}
		if r := ask(1 << 63); r.Allowed || r.RetryAfter != Never {
			t.Errorf("far too many: %+v", r)
		}
		if r := ask(math.MaxUint64); r.Allowed || r.RetryAfter != Never {
			t.Errorf("all that there are: %+v", r)
		}
		if r := ask(7); !r.Allowed || r.Remaining != 3 {
			t.Errorf("seven: %+v", r)
		}
		if r := ask(math.MaxUint64); r.Allowed || r.RetryAfter != Never || r.Remaining != 3 {
			t.Errorf("all that there are: %+v", r)
		}
		if r := ask(4); r.Allowed || r.Remaining != 3 || r.RetryAfter <= 0 || r.RetryAfter > time.Second {
			t.Errorf("four of three: %+v", r)
		}
		if r := ask(3); !r.Allowed || r.Remaining != 0 {
			t.Errorf("three: %+v", r)
		}
		if r := ask(0); r.Allowed || r.RetryAfter <= 0 {
			t.Errorf("a question about nothing: %+v", r)
		}
		if s := l.Stats(t.Context()); s.TotalRequests != 7 || s.AllowedRequests != 2 || s.Policies[0].Hits != 7 {
			t.Errorf("questions were counted: %+v", s)
		}
	})
}

// TestLargestCounts: nothing overflows at the largest limit.
func TestLargestCounts(t *testing.T) {
	for _, a := range allAlgorithms {
		if bucketed(a) {
			continue
		}
		r := newRuled(t, newFakeClock(), a, math.MaxUint32, time.Hour, math.MaxUint32)
		for _, hits := range []uint64{math.MaxUint32 + 1, math.MaxUint64, 1 << 33} {
			if took, peeked := r.take(hits), r.peek(hits); took.Admitted || peeked.Admitted || took.RetryAfter != Never {
				t.Errorf("%s: %d hits: %+v, %+v", a, hits, took, peeked)
			}
		}
		if o := r.take(math.MaxUint32 - 1); !o.Admitted || o.Remaining != 1 {
			t.Errorf("%s: %+v", a, o)
		}
		for _, hits := range []uint64{2, math.MaxUint32, math.MaxUint64} {
			if took, peeked := r.take(hits), r.peek(hits); took.Admitted || peeked.Admitted || took.Remaining != 1 {
				t.Errorf("%s: %d hits: %+v, %+v", a, hits, took, peeked)
			}
		}
		r.rule.algorithm.Reset(r.bucket(), r.now())
		if o := r.take(math.MaxUint32); !o.Admitted || o.Remaining != 0 {
			t.Errorf("%s: %+v", a, o)
		}
	}
}

// TestLoosenedPolicyOwesNoMoreThanItsBurst: debts from a slower limit are cut, for a queue as well.
func TestLoosenedPolicyOwesNoMoreThanItsBurst(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.AlgorithmTokenBucket, policy.AlgorithmLeakyBucket} {
		c := newFakeClock()
		p := policy.Policy{Name: "p", Scope: policy.ScopeGlobal, Algorithm: a, Limit: 1, Window: time.Second, Burst: 30}
		l := newLimiter(t, c, p)
		ask := func(hits uint64) Result {
			r, err := l.Check(t.Context(), Query{Request: &RequestContext{}, Hits: hits})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := ask(30); !r.Allowed {
			t.Fatal(r)
		}
		p.Limit, p.Burst = 1000, 10
		if err := l.UpdatePolicy(t.Context(), l7(p)[0]); err != nil {
			t.Fatal(err)
		}
		if r := ask(1); r.Allowed || r.RetryAfter != time.Millisecond || r.ResetAfter != 10*time.Millisecond {
			t.Errorf("%s: %+v", a, r)
		}
		c.advance(time.Millisecond)
		if r := ask(1); !r.Allowed {
			t.Errorf("%s: after that wait %+v", a, r)
		}
	}
}

// TestPressureDrop: a policy that drops under pressure says so to who asks and to who takes, and keeps
// the debts that there are.
func TestPressureDrop(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		c := newFakeClock()
		l := newLimiterOf(t, Options{Entries: MinEntries, Clock: c.now})
		rule, err := l.NewRule(policy.Policy{Name: "r", Algorithm: a, Limit: 5, Window: time.Minute, OnPressure: policy.PressureDrop})
		if err != nil {
			t.Fatal(err)
		}
		dropped := 0
		for i := range uint64(4 * MinEntries) {
			b := Bucket{l.table, mix(i + 1)}
			peeked, took := rule.algorithm.Peek(b, c.now(), 1), rule.algorithm.Take(b, c.now(), 1)
			if peeked.Admitted != took.Admitted || peeked.RetryAfter != took.RetryAfter || peeked.Pressure != took.Pressure {
				t.Fatalf("Peek says %+v, Take %+v", peeked, took)
			}
			if took.Admitted {
				continue
			}
			if dropped++; took.RetryAfter != time.Second || took.Remaining != 0 || !took.Pressure {
				t.Fatalf("%+v", took)
			}
		}
		if got := l.table.Occupancy(c.now().Ticks).Owing; dropped < 2*MinEntries || got != 4*MinEntries-dropped {
			t.Errorf("%d dropped, %d owe", dropped, got)
		}
	})
}

// TestDeniedLeaveNoTrace: of two buckets one is asked for more, several times in one call that something else
// denies; nobody can tell them apart, then or later.
func TestDeniedLeaveNoTrace(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		rapid.Check(t, func(t *rapid.T) {
			r, limit, burst, window := drawRuled(t, a)
			twin := newRuled(t, r.fakeClock, a, limit, window, burst)
			one, err := r.NewRule(policy.Policy{Name: "one", Limit: 1, Window: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			for range rapid.IntRange(1, 40).Draw(t, "arrivals") {
				r.advance(drawGap(t, r.fakeClock, limit, window))
				queries := []Query{{Rule: one, Key: "k", Hits: 2}} // will never pass
				for range rapid.IntRange(0, 4).Draw(t, "denied") {
					at := rapid.IntRange(0, len(queries)).Draw(t, "at")
					queries = slices.Insert(queries, at, Query{Rule: r.rule, Key: "k", Hits: drawHits(t, burst)})
				}
				if _, err := r.CheckAll(t.Context(), queries, make([]Result, len(queries))); err != nil {
					t.Fatal(err)
				}
				hits := drawHits(t, burst)
				got, want := r.take(hits), twin.take(hits)
				if got.Found = want.Found; got != want {
					t.Fatalf("%d hits: %+v, and without what was denied %+v", hits, got, want)
				}
			}
		})
	})
}

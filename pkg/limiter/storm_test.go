package limiter

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// storm calls do from many goroutines, on more threads than there are cores, so that they are preempted
// between any two instructions.
func storm(t *testing.T, goroutines, times int, do func(rng *rand.Rand)) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.NumCPU())))
	var all sync.WaitGroup
	begin := make(chan struct{})
	for g := range goroutines {
		rng := rand.New(rand.NewPCG(uint64(g), 4))
		all.Go(func() {
			<-begin
			for range times {
				do(rng)
			}
		})
	}
	close(begin)
	all.Wait()
}

// TestStormOnOneBucket: of many at once, exactly the limit is admitted.
func TestStormOnOneBucket(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		for round := range 20 {
			const limit = 500
			c := newFakeClock()
			r := newRuled(t, c, a, limit, time.Hour, limit)
			var admitted atomic.Int64
			storm(t, 8, 200, func(rng *rand.Rand) {
				hits := 1 + rng.Uint64N(3)
				if r.take(hits).Admitted {
					admitted.Add(int64(hits))
				}
			})
			for r.take(1).Admitted {
				admitted.Add(1)
			}
			if got := admitted.Load(); got != limit {
				t.Fatalf("round %d: %d admitted of %d", round, got, limit)
			}
		}
	})
}

// threePolicies have one bucket each, of which the middle one is the first to be empty.
func threePolicies(a policy.Algorithm, rng *rand.Rand) []policy.Policy {
	order := rng.Perm(3)
	var out []policy.Policy
	for i, limit := range []uint64{900, 300, 600} {
		out = append(out, policy.Policy{Name: fmt.Sprintf("p%d", i), Scope: policy.ScopeGlobal, Algorithm: a, Limit: limit, Window: time.Hour,
			Priority: 1 + order[i]})
	}
	if a == policy.AlgorithmLeakyBucket { // whose queue must not be longer than half a minute
		for i := range out {
			out[i].Window = time.Duration(out[i].Limit) * 10 * time.Millisecond
		}
	}
	return out
}

// TestStormBurnsNothing: with three policies of which one denies most, none admits too many, and each has
// afterwards exactly what its burst and the admitted leave: nothing that was denied cost it anything.
func TestStormBurnsNothing(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		for round := range 20 {
			c := newFakeClock()
			policies := threePolicies(a, rand.New(rand.NewPCG(uint64(round), 1)))
			l := newLimiter(t, c, policies...)
			var admitted atomic.Uint64
			storm(t, 8, 150, func(rng *rand.Rand) {
				hits := 1 + rng.Uint64N(2)
				if rng.IntN(4) == 0 {
					admitted.Add(l.checkTwo(t, hits))
					return
				}
				r, err := l.Check(t.Context(), Query{Request: &RequestContext{}, Hits: hits})
				if err != nil {
					t.Error(err)
				}
				if r.Allowed {
					admitted.Add(hits)
				}
			})
			l.holdToAccount(t, policies, admitted.Load())
		}
	})
}

// checkTwo asks twice at once, and returns what was admitted.
func (l *Limiter) checkTwo(t *testing.T, hits uint64) uint64 {
	queries := []Query{{Request: &RequestContext{}, Hits: hits}, {Request: &RequestContext{}, Hits: 1}}
	results := make([]Result, len(queries))
	if _, err := l.CheckAll(t.Context(), queries, results); err != nil {
		t.Error(err)
	}
	if results[0].Allowed && results[1].Allowed {
		return hits + 1
	}
	return 0
}

// holdToAccount compares buckets and counters with what was admitted.
func (l *Limiter) holdToAccount(t *testing.T, policies []policy.Policy, admitted uint64) {
	t.Helper()
	for _, p := range policies {
		b, err := l.Bucket(p.Name, GlobalKey)
		if err != nil {
			t.Fatal(err)
		}
		if b.Remaining+admitted != p.Limit {
			t.Fatalf("%s: %d admitted and %d left of %d", p.Name, admitted, b.Remaining, p.Limit)
		}
	}
	if admitted > 300 {
		t.Fatalf("%d admitted of 300", admitted)
	}
	for _, s := range l.Counters().Policies {
		if s.Hits != s.Allowed+s.Exceeded+s.ShadowExceeded+s.Refunded {
			t.Fatalf("%+v", s)
		}
	}
}

// TestStormOfReplacements: while policies are replaced, each request sees one set, whole: either the two
// policies of the one or the two of the other; and buckets keep what they have.
func TestStormOfReplacements(t *testing.T) {
	c := newFakeClock()
	set := func(version int) policy.Document {
		name := fmt.Sprintf("v%d", version)
		return policy.Document{Policies: l7(
			policy.Policy{Name: "kept", Scope: policy.ScopeGlobal, Limit: 5000, Window: 24 * time.Hour},
			policy.Policy{Name: name, Scope: policy.ScopeGlobal, Limit: 1e6, Window: time.Hour, Priority: version},
			policy.Policy{Name: name + "-watch", Scope: policy.ScopeGlobal, Limit: 1, Window: time.Hour, Mode: policy.ModeShadow},
		)}
	}
	l := newLimiter(t, c)
	if err := l.Replace(set(0)); err != nil {
		t.Fatal(err)
	}
	var admitted atomic.Uint64
	storm(t, 8, 1500, func(rng *rand.Rand) {
		if rng.IntN(20) == 0 {
			if err := l.Replace(set(rng.IntN(2))); err != nil {
				t.Error(err)
			}
			return
		}
		var few [4]charge
		v := view{request: &RequestContext{}}
		names := []string{}
		for _, c := range l.set.Load().find(few[:0], &v) {
			names = append(names, c.rule.policy.Name)
		}
		if got := fmt.Sprint(names); got != "[kept v0 v0-watch]" && got != "[v1 kept v1-watch]" {
			t.Errorf("half of a set: %s", got)
		}
		r, err := l.CheckRequest(t.Context(), "", &RequestContext{})
		if err != nil {
			t.Error(err)
		}
		if r.Allowed {
			admitted.Add(1)
		}
	})
	b, err := l.Bucket("kept", GlobalKey)
	if err != nil || b.Remaining+admitted.Load() != 5000 || admitted.Load() != 5000 {
		t.Errorf("%d admitted, and %+v, %v", admitted.Load(), b, err)
	}
	if s := l.Counters().Policies; s[0].Policy == "kept" && s[0].Allowed != 5000 {
		t.Errorf("%+v", s[0])
	}
}

// TestStormOfReleases: places that are given back are there again, each once.
func TestStormOfReleases(t *testing.T) {
	c := newFakeClock()
	l := newLimiter(t, c, policy.Policy{Name: "jobs", Scope: policy.ScopePerUser, Algorithm: policy.AlgorithmConcurrency, Limit: 5, Window: time.Minute})
	var inFlight, most atomic.Int64
	storm(t, 8, 500, func(rng *rand.Rand) {
		r, err := l.CheckRequest(t.Context(), "", &RequestContext{UserID: "u"})
		if err != nil {
			t.Error(err)
		}
		if !r.Allowed {
			return
		}
		most.Store(max(most.Load(), inFlight.Add(1)))
		runtime.Gosched()
		inFlight.Add(-1)
		if token := l.LeaseToken(&r); rng.IntN(2) == 0 {
			if err := l.ReleaseToken(token); err != nil {
				t.Error(err)
			}
			return
		}
		l.Release(&r)
	})
	if b, err := l.Bucket("jobs", "u"); most.Load() > 5 || err != nil || b.Remaining != 5 {
		t.Errorf("%d in flight at once; then %+v, %v", most.Load(), b, err)
	}
}

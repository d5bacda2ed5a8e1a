package limiter

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// between is an algorithm that admits nothing, and does something first.
type between struct{ do func() }

func (a *between) Take(b Bucket, now Instant, hits uint64) Outcome {
	a.do()
	return a.Peek(b, now, hits)
}
func (*between) Peek(Bucket, Instant, uint64) Outcome    { return Outcome{RetryAfter: time.Second} }
func (*between) Refund(Bucket, Instant, Outcome, uint64) {}
func (*between) Reset(Bucket, Instant)                   {}

// TestTurnsAreToldOnce: who joins a queue while another, that some policy denies, is being decided over, gets a turn
// that nobody else is told of; and nobody is kept waiting for who was denied.
func TestTurnsAreToldOnce(t *testing.T) {
	turns := map[time.Duration]int{}
	nosy := &between{}
	o := Options{Entries: MinEntries, Clock: newFakeClock().now, Algorithms: map[policy.Algorithm]NewAlgorithm{
		"between": func(policy.Policy) (Algorithm, error) { return nosy, nil },
	}}
	l := newLimiterOf(t, o,
		policy.Policy{Name: "queue", Scope: policy.ScopeGlobal, Limit: 1, Window: time.Second, Burst: 20, Priority: 9, Algorithm: policy.AlgorithmLeakyBucket},
		policy.Policy{Name: "between", Scope: policy.ScopeGlobal, Limit: 1, Window: time.Second, Algorithm: "between", Match: policy.Match{Methods: []string{"POST"}}},
	)
	ask := func(method string) Result {
		r, err := l.Check(t.Context(), Query{Request: &RequestContext{Method: method}, Hits: 1})
		if err != nil || r.Allowed == (method == "POST") {
			t.Fatalf("%s: %+v %v", method, r, err)
		}
		return r
	}
	join := func() { turns[ask("GET").Delay]++ }
	nosy.do = join
	join()
	for range 3 {
		ask("POST")
		join()
	}
	for i := range 7 {
		if turn := time.Duration(i) * time.Second; turns[turn] != 1 {
			t.Errorf("%d go on after %s", turns[turn], turn)
		}
	}
}

// TestRefundOfPlaces: a place is given back if it is the last, and never sold twice.
func TestRefundOfPlaces(t *testing.T) {
	l := newLimiter(t, newFakeClock(), policy.Policy{Name: "queue", Scope: policy.ScopeGlobal, Limit: 1, Window: time.Second, Burst: 9, Algorithm: policy.AlgorithmLeakyBucket})
	take := func(want time.Duration) *Result {
		t.Helper()
		r, err := l.Check(t.Context(), Query{Request: &RequestContext{}, Hits: 1, Refundable: true})
		if err != nil || !r.Allowed || r.Delay != want {
			t.Errorf("%+v %v, want a delay of %s", r, err, want)
		}
		return &r
	}
	l.Refund(take(0))
	first := take(0)
	take(time.Second)
	l.Refund(first)
	take(2 * time.Second)
}

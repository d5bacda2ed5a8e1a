package middleware

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// said is a Checker that says what it is told to, for answers that the engine gives in few cases only.
type said struct {
	res limiter.Result
	err error

	mu       sync.Mutex
	asked    []limiter.Query
	contexts []limiter.RequestContext
	released int
}

func (s *said) Check(_ context.Context, q limiter.Query) (limiter.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.contexts = append(s.asked, q), append(s.contexts, *q.Request)
	return s.res, s.err
}

func (s *said) Release(r *limiter.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released++
}

// engine is a limiter with policies of layer 7, by the clock of the test's bubble if it has one.
func engine(t testing.TB, policies ...policy.Policy) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(limiter.Options{Entries: limiter.MinEntries})
	if err != nil {
		t.Fatal(err)
	}
	for i := range policies {
		policies[i].Layer = policy.LayerL7
		policies[i] = policies[i].WithDefaults()
	}
	if err := l.Replace(policy.Document{Policies: policies}); err != nil {
		t.Fatal(err)
	}
	return l
}

// noon is when all tests take place, a millisecond late so that rounding shows.
var noon = time.Date(2026, 3, 20, 12, 0, 0, 1_000_000, time.UTC)

func clock() time.Time { return noon }

// allowed is a usual answer.
func allowed() limiter.Result {
	return limiter.Result{
		Allowed: true, Policy: "api_v2", Limit: 1000, Window: time.Hour, Burst: 1000, Remaining: 999,
		ResetAfter: 3600 * time.Millisecond, List: "none",
	}
}

// exceeded is the answer of requirements-source.md.
func exceeded() limiter.Result {
	return limiter.Result{
		Policy: "api_v2", Limit: 1000, Window: time.Hour, Burst: 1000,
		ResetAfter: time.Hour, RetryAfter: 299*time.Second + 1, List: "none",
	}
}

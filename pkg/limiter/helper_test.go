package limiter

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// fakeClock tells the time that a test sets.
type fakeClock struct{ up, unix time.Duration }

func newFakeClock() *fakeClock {
	return &fakeClock{firstInstant, 1_800_000_000 * time.Second}
}

func (c *fakeClock) now() Instant {
	return Instant{Ticks: bucket.AtNanoseconds(uint64(c.up)), Unix: c.unix}
}

// advance moves both clocks.
func (c *fakeClock) advance(d time.Duration) { c.up += d; c.unix += d }

// at asks something at another time.
func (c *fakeClock) at(after time.Duration, ask func()) {
	saved := *c
	c.advance(after)
	ask()
	*c = saved
}

type testing_ interface {
	Helper()
	Fatalf(string, ...any)
}

// newLimiter makes a limiter of policies, which get their defaults and layer l7.
func newLimiter(t testing_, c *fakeClock, policies ...policy.Policy) *Limiter {
	t.Helper()
	return newLimiterOf(t, Options{Entries: 1 << 14, Clock: c.now}, policies...)
}

func newLimiterOf(t testing_, o Options, policies ...policy.Policy) *Limiter {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := l.Replace(policy.Document{Policies: l7(policies...)}); err != nil {
		t.Fatalf("%v", err)
	}
	return l
}

func l7(policies ...policy.Policy) []policy.Policy {
	out := make([]policy.Policy, len(policies))
	for i, p := range policies {
		p.Layer = policy.LayerL7
		out[i] = p.WithDefaults()
	}
	return out
}

// ruled is one bucket of one algorithm.
type ruled struct {
	*Limiter
	*fakeClock
	rule *Rule
}

func newRuled(t testing_, c *fakeClock, a policy.Algorithm, limit uint64, window time.Duration, burst uint64) *ruled {
	t.Helper()
	l := newLimiter(t, c)
	r, err := l.NewRule(policy.Policy{Name: "r", Algorithm: a, Limit: limit, Window: window, Burst: burst})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &ruled{l, c, r}
}

func (r *ruled) bucket() Bucket { return Bucket{r.table, r.rule.space.text("k")} }

func (r *ruled) take(hits uint64) Outcome { return r.rule.algorithm.Take(r.bucket(), r.now(), hits) }
func (r *ruled) peek(hits uint64) Outcome { return r.rule.algorithm.Peek(r.bucket(), r.now(), hits) }
func (r *ruled) refund(o Outcome, hits uint64) {
	r.rule.algorithm.Refund(r.bucket(), r.now(), o, hits)
}

func (r *ruled) now() Instant { return r.fakeClock.now() }

// drawGap draws how long it is until the next arrival: around all the times that mean something.
func drawGap(t *rapid.T, c *fakeClock, limit uint64, window time.Duration) time.Duration {
	token := window / time.Duration(limit)
	edge := window - c.unix%window
	gap := rapid.OneOf(
		rapid.SampledFrom([]time.Duration{0, 0, 1, token - 1, token, token + 1, edge - 1, edge, edge + 1, window - 1, window, window + 1, window / 2, edge / 3}),
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(window)).Draw(t, "ns"))
		}),
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(3*token)).Draw(t, "ns"))
		}),
	).Draw(t, "gap")
	return max(gap, 0)
}

// drawPhase starts the clock anywhere in a window.
func (c *fakeClock) drawPhase(t *rapid.T, window time.Duration) {
	c.up += time.Duration(rapid.Int64Range(0, int64(window)).Draw(t, "up"))
	c.unix += time.Duration(rapid.Int64Range(0, int64(window)).Draw(t, "unix"))
}

// passed is something that was admitted.
type passed struct {
	at   time.Duration
	hits uint64
}

// worst is the largest share of what bound allows in any interval between two of the passed, in order of time.
func worst(all []passed, bound func(t time.Duration) float64) (share float64, from, to passed, n uint64) {
	for i := range all {
		sum := uint64(0)
		for j := i; j < len(all); j++ {
			sum += all[j].hits
			if s := float64(sum) / bound(all[j].at-all[i].at); s > share {
				share, from, to, n = s, all[i], all[j], sum
			}
		}
	}
	return share, from, to, n
}

var allAlgorithms = policy.Algorithms()

func eachAlgorithm(t *testing.T, test func(t *testing.T, a policy.Algorithm)) {
	for _, a := range allAlgorithms {
		t.Run(string(a), func(t *testing.T) { test(t, a) })
	}
}

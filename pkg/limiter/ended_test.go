package limiter

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestEndedTakesNoRoom: whose requests have all ended is nobody for whom somebody else must be turned away, however
// the requests overlapped.
func TestEndedTakesNoRoom(t *testing.T) {
	l := newLimiterOf(t, Options{Entries: MinEntries, Clock: newFakeClock().now}, policy.Policy{Name: "jobs", Scope: policy.ScopePerUser, Limit: 2,
		Window: time.Hour, Algorithm: policy.AlgorithmConcurrency, OnPressure: policy.PressureDrop})
	for i := range 4 * MinEntries {
		ask := func() *Result {
			r, err := l.CheckRequest(t.Context(), "", &RequestContext{UserID: fmt.Sprint(i)})
			if err != nil || !r.Allowed {
				t.Fatalf("user %d: %+v %v", i, r, err)
			}
			return &r
		}
		first, second := ask(), ask()
		l.Release(first)
		l.Release(second)
	}
	if n := l.Stats(t.Context()).Table.Owing; n != 0 {
		t.Errorf("%d counters of nothing are kept", n)
	}
}

package limiter

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestMaxDelayTakesNoPlace: askers that don't wait long enough must not lengthen the queue of those who do.
func TestMaxDelayTakesNoPlace(t *testing.T) {
	l, err := New(Options{Entries: MinEntries, Clock: func() Instant { return Instant{} }})
	if err != nil {
		t.Fatal(err)
	}
	queue := policy.Policy{Name: "queue", Scope: policy.ScopeGlobal, Layer: policy.LayerL7, Algorithm: policy.AlgorithmLeakyBucket,
		Limit: 1, Window: time.Second, Burst: 10}.WithDefaults()
	other := policy.Policy{Name: "other", Scope: policy.ScopeGlobal, Layer: policy.LayerL7, Limit: 100, Window: time.Second}.WithDefaults()
	if err := l.Replace(policy.Document{Policies: []policy.Policy{other, queue}}); err != nil {
		t.Fatal(err)
	}
	check := func(longest time.Duration) Result {
		t.Helper()
		r, err := l.Check(t.Context(), Query{Request: &RequestContext{}, Hits: 1, MaxDelay: longest})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for i := range 3 {
		if r := check(0); !r.Allowed || r.Delay != time.Duration(i)*time.Second {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	for range 20 {
		if r := check(2 * time.Second); r.Allowed || r.RetryAfter != time.Second || r.Delay != 0 || r.Policy != "queue" {
			t.Fatalf("too long: %+v", r)
		}
	}
	if r := check(-1); r.Allowed || r.RetryAfter != 3*time.Second {
		t.Errorf("who never waits: %+v", r)
	}
	if r := check(3 * time.Second); !r.Allowed || r.Delay != 3*time.Second {
		t.Errorf("just long enough: %+v", r)
	}
	if b, err := l.Bucket("other", "-"); err != nil || b.Remaining != 96 {
		t.Errorf("the other policy was charged for what was denied: %+v, %v", b, err)
	}
	for _, p := range l.Stats(t.Context()).Policies {
		if p.Policy == "queue" && (p.Allowed != 4 || p.Exceeded != 21) {
			t.Errorf("%+v", p)
		}
	}
}

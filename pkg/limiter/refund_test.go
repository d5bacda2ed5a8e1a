package limiter

import (
	"context"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestRefund gives back what was charged, by all policies and once, and nothing that was not to be given back.
func TestRefund(t *testing.T) {
	l, err := New(Options{Entries: MinEntries})
	if err != nil {
		t.Fatal(err)
	}
	var doc policy.Document
	for _, p := range []policy.Policy{
		{Name: "bucket", Scope: policy.ScopePerUser, Limit: 10, Window: time.Hour},
		{Name: "window", Scope: policy.ScopeGlobal, Limit: 10, Window: time.Hour, Algorithm: policy.AlgorithmSlidingWindow},
		{Name: "flight", Scope: policy.ScopePerUser, Limit: 10, Window: time.Hour, Algorithm: policy.AlgorithmConcurrency},
	} {
		doc.Policies = append(doc.Policies, p.WithDefaults())
	}
	if err := l.Replace(doc); err != nil {
		t.Fatal(err)
	}
	left := func(want ...uint64) {
		t.Helper()
		for i, key := range []string{"alice", GlobalKey, "alice"} {
			b, err := l.Bucket(doc.Policies[i].Name, key)
			if err != nil || b.Remaining != want[i] {
				t.Errorf("%s has %d left, want %d (%v)", b.Policy, b.Remaining, want[i], err)
			}
		}
	}
	check := func(refundable bool) *Result {
		t.Helper()
		r, err := l.Check(context.Background(), Query{Request: &RequestContext{UserID: "alice"}, Hits: 3, Refundable: refundable})
		if err != nil || !r.Allowed {
			t.Fatalf("%+v %v", r, err)
		}
		return &r
	}
	first := check(true)
	left(7, 7, 7)
	l.Refund(first)
	left(10, 10, 10)
	l.Refund(first)
	l.Release(first)
	left(10, 10, 10)

	second := check(false)
	left(7, 7, 7)
	l.Release(second)
	left(7, 7, 10)
	l.Refund(second)
	left(7, 7, 10)
}

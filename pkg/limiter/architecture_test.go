package limiter_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The request of docs/ARCHITECTURE.md, whose numbers these are.
func ExampleLimiter_CheckRequest() {
	now := limiter.Instant{Ticks: bucket.AtNanoseconds(uint64(time.Hour)), Unix: 1_800_000_000 * time.Second}
	l, err := limiter.New(limiter.Options{Clock: func() limiter.Instant { return now }})
	if err != nil {
		fmt.Println(err)
		return
	}
	policies := []policy.Policy{
		{Name: "per-user", Scope: policy.ScopePerUser, Limit: 100, Window: time.Minute, Burst: 3},
		{Name: "premium", Scope: policy.ScopePerUser, Limit: 1000, Window: time.Minute, Burst: 4, Replaces: []string{"per-user"},
			Match: policy.Match{Roles: []string{"premium"}}},
		{Name: "reports", Scope: policy.ScopePerEndpoint, Limit: 2, Window: time.Hour, Algorithm: policy.AlgorithmFixedWindow,
			Match: policy.Match{Methods: []string{"POST"}, Endpoints: []string{"/api/v2/reports/*"}}},
		{Name: "everybody", Scope: policy.ScopeGlobal, Limit: 1, Window: time.Second, Mode: policy.ModeShadow},
	}
	for i := range policies {
		policies[i] = policies[i].WithDefaults()
	}
	if err := l.Replace(policy.Document{Policies: policies}); err != nil {
		fmt.Println(err)
		return
	}
	request := limiter.RequestContext{
		ClientIP: netip.MustParseAddr("192.0.2.7"), Method: "POST", Endpoint: "/api//v2/./reports/7?year=2026",
		UserID: "alice", UserRole: "premium",
	}
	for i := 1; i <= 3; i++ {
		r, err := l.CheckRequest(context.Background(), "", &request)
		fmt.Printf("%d: allowed %v by %s: %d of %d left, all of it in %v; retry after %v; shadow %q %v\n",
			i, r.Allowed, r.Policy, r.Remaining, r.Limit, r.ResetAfter, r.RetryAfter, r.Shadow, err)
	}
	b, err := l.Bucket("premium", "alice")
	fmt.Printf("premium of alice: %d of %d left %v\n", b.Remaining, b.Burst, err)
	// Output:
	// 1: allowed true by reports: 1 of 2 left, all of it in 1h0m0s; retry after 0s; shadow "" <nil>
	// 2: allowed true by reports: 0 of 2 left, all of it in 1h0m0s; retry after 0s; shadow "everybody" <nil>
	// 3: allowed false by reports: 0 of 2 left, all of it in 1h0m0s; retry after 1h0m0s; shadow "everybody" <nil>
	// premium of alice: 2 of 4 left <nil>
}

package limiter_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

func Example() {
	ctx := context.Background()
	limits, err := limiter.New(limiter.Options{})
	if err != nil {
		log.Fatal(err)
	}
	err = limits.AddPolicy(ctx, policy.Policy{
		Name: "per-key", Scope: policy.ScopePerAPIKey, Limit: 1000, Window: time.Hour, Burst: 1,
	})
	if err != nil {
		log.Fatal(err)
	}

	request := limiter.RequestContext{
		ClientIP: netip.MustParseAddr("192.0.2.7"), Method: "POST", Endpoint: "/api/v2/jobs",
		APIKey: identity.HashAPIKey("k-456"),
	}
	for range 2 {
		result, err := limits.CheckRequest(ctx, "", &request)
		switch {
		case err != nil:
			fmt.Println("nobody can decide over this:", err)
		case !result.Allowed:
			fmt.Println("come back in", result.RetryAfter.Round(time.Second))
		default:
			fmt.Println("welcome, by", result.Policy)
			defer limits.Release(&result) // for policies that count what is in flight
		}
	}
	// Output:
	// welcome, by per-key
	// come back in 4s
}

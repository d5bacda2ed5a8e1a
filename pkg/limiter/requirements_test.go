package limiter_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The examples of the text that weir was asked for in, one by one and in their order.

// stopped is a limiter whose clock stands still, for the sake of the examples.
func stopped() *limiter.Limiter {
	now := limiter.Instant{Ticks: bucket.AtNanoseconds(uint64(time.Hour)), Unix: 1_640_995_200 * time.Second}
	l, err := limiter.New(limiter.Options{Clock: func() limiter.Instant { return now }})
	if err != nil {
		panic(err)
	}
	return l
}

// Basic configuration.
func ExampleDistributedRateLimitConfig() {
	config := limiter.DistributedRateLimitConfig{
		RedisURL:                   "redis://localhost:6379",
		PoolSize:                   10,
		ConnectionTimeoutMS:        5000,
		CommandTimeoutMS:           1000,
		ClusterMode:                false,
		KeyPrefix:                  "rustci:ratelimit",
		DefaultTTLSeconds:          3600,
		EnableCompression:          false,
		FallbackToMemory:           true,
		HealthCheckIntervalSeconds: 30,
	}
	fmt.Print(config.YAML())
	// Output:
	// redis:
	//   url: "redis://localhost:6379"
	//   pool_size: 10
	//   connection_timeout: 5s
	//   command_timeout: 1s
	//   cluster: false
	//   key_prefix: "rustci:ratelimit"
	//   default_ttl: 1h
	//   compression: false
	// fallback:
	//   to_memory: true
	//   health_check_interval: 30s
}

// Production configuration, as JSON.
func ExampleParseDistributedRateLimitConfig() {
	config, err := limiter.ParseDistributedRateLimitConfig([]byte(`{
		"redis_url": "redis://redis-cluster.prod.example.com:6379",
		"pool_size": 20, "connection_timeout_ms": 3000, "command_timeout_ms": 1000, "cluster_mode": true,
		"key_prefix": "rustci:prod:ratelimit", "default_ttl_seconds": 7200, "enable_compression": true,
		"fallback_to_memory": true, "health_check_interval_seconds": 30}`))
	fmt.Print(config.YAML(), err)
	// Output:
	// redis:
	//   url: "redis://redis-cluster.prod.example.com:6379"
	//   pool_size: 20
	//   connection_timeout: 3s
	//   command_timeout: 1s
	//   cluster: true
	//   key_prefix: "rustci:prod:ratelimit"
	//   default_ttl: 2h
	//   compression: true
	// fallback:
	//   to_memory: true
	//   health_check_interval: 30s
	// <nil>
}

// Creating rate limiting policies.
func ExampleRateLimitPolicy() {
	l, ctx := stopped(), context.Background()

	apiPolicy := limiter.RateLimitPolicy{
		Name:          "api_v2_endpoints",
		Limit:         1000,
		WindowSeconds: 3600,
		BurstLimit:    100,
		Priority:      2,
		Scope:         policy.ScopePerEndpoint,
		CustomHeaders: map[string]string{"X-RateLimit-Policy": "api_v2"},
		Enabled:       true,
	}
	fmt.Println(l.AddPolicy(ctx, apiPolicy.Policy()))

	userPolicy := limiter.RateLimitPolicy{
		Name:          "premium_users",
		Limit:         5000,
		WindowSeconds: 3600,
		BurstLimit:    200,
		Priority:      3,
		Scope:         policy.ScopePerUser,
		Enabled:       true,
	}
	fmt.Println(l.AddPolicy(ctx, userPolicy.Policy()))

	r, err := l.CheckRequest(ctx, "request_key", &limiter.RequestContext{UserID: "user123", Endpoint: "/api/v2/pipelines"})
	fmt.Println(r.Policy, r.Remaining, r.Burst, r.Headers, err)
	// Output:
	// <nil>
	// <nil>
	// api_v2_endpoints 99 100 [{X-Ratelimit-Policy api_v2}] <nil>
}

// Basic rate limiting.
func ExampleLimiter_CheckRateLimit() {
	l, ctx := limiter.NewInMemory(), context.Background()
	for range 2 {
		result, err := l.CheckRateLimit(ctx, "user:123", 1, time.Hour)
		switch {
		case err != nil:
			fmt.Println(err)
		case result.Allowed:
			fmt.Printf("Request allowed: %d/%d remaining\n", result.Remaining, result.Limit)
		default:
			fmt.Printf("Rate limited: retry after %v\n", result.RetryAfter.Round(time.Minute))
		}
	}
	// Output:
	// Request allowed: 0/1 remaining
	// Rate limited: retry after 1h0m0s
}

// Context-based rate limiting.
func ExampleRequestContext() {
	l := stopped()
	key := policy.Policy{Name: "keys", Scope: policy.ScopePerAPIKey, Limit: 100, Window: time.Hour}
	if err := l.AddPolicy(context.Background(), key); err != nil {
		fmt.Println(err)
		return
	}
	request := limiter.RequestContext{
		ClientIP:  netip.MustParseAddr("192.168.1.100"),
		Method:    "POST",
		Endpoint:  "/api/v2/pipelines",
		UserID:    "user123",
		UserRole:  "premium",
		APIKey:    "97bb7e1f2a3c4d5e6f708192a3b4c5d6", // a digest: the key itself never comes this far
		RequestID: "7f0c2a6e-6c1d-4f0f-9d7c-2f1f3f3d8c11",
		Metadata:  map[string]string{},
	}
	result, err := l.CheckRequest(context.Background(), "request_key", &request)
	fmt.Println(result.Allowed, result.Policy, result.Remaining, err)
	// Output: true keys 99 <nil>
}

// Health checks and performance statistics.
func ExampleLimiter_Stats() {
	l, ctx := stopped(), context.Background()
	_, _ = l.CheckRateLimit(ctx, "user:123", 100, time.Hour)

	health := l.Health(ctx)
	fmt.Println("Redis available:", health.RedisAvailable)
	fmt.Println("Consecutive failures:", health.ConsecutiveFailures)
	fmt.Println("Total requests:", health.TotalRequests)

	stats := l.Stats(ctx)
	fmt.Println("Total requests:", stats.TotalRequests)
	fmt.Println("Redis requests:", stats.RedisRequests)
	fmt.Println("Fallback requests:", stats.FallbackRequests)
	fmt.Printf("Average latency: %.2fms\n", stats.AverageLatencyMS)
	fmt.Println("Active policies:", stats.ActivePolicies)
	// Output:
	// Redis available: false
	// Consecutive failures: 0
	// Total requests: 1
	// Total requests: 1
	// Redis requests: 0
	// Fallback requests: 0
	// Average latency: 0.00ms
	// Active policies: 0
}

// Migration from basic rate limiting.
func ExampleNewInMemory() {
	basic := limiter.NewInMemory()
	result, err := basic.CheckRateLimit(context.Background(), "user:123", 100, time.Hour)
	fmt.Println(result.Allowed, result.Remaining, err)
	// Output: true 99 <nil>
}

// Migration of a configuration.
func ExampleRateLimitConfig() {
	legacy := limiter.RateLimitConfig{DefaultLimit: 1000, DefaultWindowSeconds: 3600}
	l := stopped()
	fmt.Println(l.Replace(legacy.Document()))
	result, err := l.CheckRequest(context.Background(), "user:123", &limiter.RequestContext{})
	fmt.Println(result.Policy, result.Remaining, result.Window, err)

	distributed := limiter.DefaultDistributedRateLimitConfig()
	distributed.RedisURL, distributed.FallbackToMemory = "redis://localhost:6379", true
	fmt.Println(strings.SplitN(distributed.YAML(), "\n", 3)[1])
	// Output:
	// <nil>
	// default 999 1h0m0s <nil>
	//   url: "redis://localhost:6379"
}

// TestRequirementsExamples: what the examples make is what weir's own parts take.
func TestRequirementsExamples(t *testing.T) {
	c := limiter.DefaultDistributedRateLimitConfig()
	for _, redisURL := range []string{"redis://localhost:6379", "redis://:a'$%23@localhost:6379/1", ""} {
		c.RedisURL = redisURL
		got, err := config.Parse("weir.yaml", []byte(c.YAML()))
		if err != nil || (got.Redis == nil) != (redisURL == "") {
			t.Fatalf("%v\nin\n%s", err, c.YAML())
		}
		if redisURL != "" && (string(got.Redis.URL[0]) != redisURL || got.Redis.KeyPrefix != "rustci:ratelimit" || got.Redis.CommandTimeout != time.Second) {
			t.Errorf("%+v\nof\n%s", got.Redis, c.YAML())
		}
	}
	c.RedisURL, c.KeyPrefix = "redis://localhost", "weir: {x}"
	if _, err := config.Parse("weir.yaml", []byte(c.YAML())); err == nil || !strings.Contains(err.Error(), `redis.key_prefix: "weir: {x}" has a character`) {
		t.Errorf("%v\nin\n%s", err, c.YAML())
	}
	c.RedisURL = ""
	if text := c.YAML(); strings.Contains(text, "redis") || !strings.HasPrefix(text, "fallback:\n") {
		t.Error(text)
	}
	for text, phrase := range map[string]string{
		`{"pool": 1}`: `unknown field "pool"`, `{"pool_size": -1}`: "pool_size", `{} {}`: "there is more", ``: "EOF", `[]`: "cannot unmarshal",
	} {
		if _, err := limiter.ParseDistributedRateLimitConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), phrase) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if got, err := limiter.ParseDistributedRateLimitConfig([]byte(`{}`)); err != nil || got != limiter.DefaultDistributedRateLimitConfig() {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range []limiter.RateLimitConfig{{}, {DefaultLimit: 1}, {DefaultLimit: 1, DefaultWindowSeconds: 1 << 63}} {
		if err := limiter.NewInMemory().Replace(c.Document()); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	off := limiter.RateLimitPolicy{Name: "off", Limit: 1, WindowSeconds: 1, Scope: policy.ScopeGlobal}.Policy()
	if off.Mode != policy.ModeOff || off.Layer != policy.LayerL7 || off.Burst != 1 || off.Priority != 0 {
		t.Errorf("%+v", off)
	}
	user := limiter.RateLimitPolicy{Name: "u", Limit: 1, WindowSeconds: 1, Scope: policy.ScopePerUser, Enabled: true}.Policy()
	if user.Priority != 0 || user.Validate() != nil {
		t.Errorf("%+v", user)
	}
}

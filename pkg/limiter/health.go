package limiter

import "time"

// Health says how the limiter is.
type Health struct {
	RedisConfigured     bool      `json:"redis_configured"`
	RedisAvailable      bool      `json:"redis_available"`
	ConsecutiveFailures uint64    `json:"consecutive_failures"`
	TotalRequests       uint64    `json:"total_requests"`
	Since               time.Time `json:"since"`
	// Breaker is closed, open or half-open, since BreakerSince; empty if no Redis is configured. Nodes are those that
	// share its counts, as far as is known.
	Breaker      string    `json:"breaker,omitempty"`
	BreakerSince time.Time `json:"breaker_since,omitzero"`
	Nodes        int       `json:"nodes,omitempty"`
}

// Stats are figures since the limiter was made.
type Stats struct {
	TotalRequests    uint64  `json:"total_requests"`
	RedisRequests    uint64  `json:"redis_requests"`
	FallbackRequests uint64  `json:"fallback_requests"` // decided in memory because Redis was away
	MemoryRequests   uint64  `json:"memory_requests"`   // decided in memory because that is what policies ask for
	AllowedRequests  uint64  `json:"allowed_requests"`
	ExceededRequests uint64  `json:"exceeded_requests"`
	InvalidRequests  uint64  `json:"invalid_requests"` // that could not be decided as they were; part of no other figure
	AverageLatencyMS float64 `json:"average_latency_ms"`
	// Backends have the decisions by where their state was: see [BackendMemory].
	Backends       []BackendStats `json:"backends"`
	ActivePolicies int            `json:"active_policies"`
	// Policies has every policy that is in force, in the order of evaluation, then the rules of other
	// configurations, and what was asked with limits of its own as [OwnPolicy].
	Policies []PolicyStats `json:"policies"`
	Table    TableStats    `json:"table"`
}

// BackendStats are the decisions of one backend.
type BackendStats struct {
	Backend  string `json:"backend"`
	Allowed  uint64 `json:"allowed"`
	Exceeded uint64 `json:"exceeded"`
}

// PolicyStats are the decisions of one policy.
type PolicyStats struct {
	Policy string `json:"policy"`
	Mode   string `json:"mode"`
	// Hits are the requests that it applied to, all that follow together.
	Hits           uint64 `json:"hits"`
	Allowed        uint64 `json:"allowed"`
	Exceeded       uint64 `json:"exceeded"`
	ShadowExceeded uint64 `json:"shadow_exceeded"`
	Refunded       uint64 `json:"refunded"` // it would have allowed what another denied
}

// TableStats says how full the bucket table is.
type TableStats struct {
	Capacity int    `json:"capacity"`
	Claimed  int    `json:"claimed"`
	Owing    int    `json:"owing"`
	Pressure uint64 `json:"pressure"` // requests of buckets without an entry which found all entries of their set owing
	Bytes    int    `json:"bytes"`
}

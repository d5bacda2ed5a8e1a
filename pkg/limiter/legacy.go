package limiter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// This file is for programs that had the rate limiter whose place weir takes: its configurations, field by
// field, and what they are in weir's words.

// NewInMemory makes the basic limiter: in this process alone, without policies, for
// [Limiter.CheckRateLimit] with keys and limits of the caller's.
func NewInMemory() *Limiter {
	l, _ := New(Options{}) // which fails for bad options only
	return l
}

// RateLimitConfig is the configuration of the basic limiter.
type RateLimitConfig struct {
	DefaultLimit         uint64 `json:"default_limit"`
	DefaultWindowSeconds uint64 `json:"default_window_seconds"`
}

// Policies is the same as policies: one for each client, by its address or, where a query has none, by
// its key.
func (c RateLimitConfig) Policies() []policy.Policy {
	return []policy.Policy{policy.Policy{
		Name: "default", Scope: policy.ScopePerIP, Layer: policy.LayerL7, Limit: c.DefaultLimit, Window: seconds(c.DefaultWindowSeconds),
	}.WithDefaults()}
}

// Document is Policies for [Limiter.Replace], which tells what is wrong with them.
func (c RateLimitConfig) Document() policy.Document { return policy.Document{Policies: c.Policies()} }

// RateLimitPolicy is a policy of the distributed limiter.
type RateLimitPolicy struct {
	Name          string            `json:"name"`
	Limit         uint64            `json:"limit"`
	WindowSeconds uint64            `json:"window_seconds"`
	BurstLimit    uint64            `json:"burst_limit"` // 0: the limit
	Priority      int               `json:"priority"`
	Scope         policy.Scope      `json:"scope"` // as weir spells it: "per_endpoint"
	CustomHeaders map[string]string `json:"custom_headers"`
	Enabled       bool              `json:"enabled"`
}

// Policy is the same in weir's words, for [Limiter.AddPolicy]. It is always of layer l7, as it was.
func (p RateLimitPolicy) Policy() policy.Policy {
	out := policy.Policy{
		Name: p.Name, Scope: p.Scope, Layer: policy.LayerL7, Limit: p.Limit, Window: seconds(p.WindowSeconds), Burst: p.BurstLimit,
		Headers: p.CustomHeaders,
	}
	if !p.Enabled {
		out.Mode = policy.ModeOff
	}
	out = out.WithDefaults()
	out.Priority = p.Priority // of which 0 was a choice
	return out
}

// seconds is a duration; what is longer than one can be is the longest, which no limit may have.
func seconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/uint64(time.Second))) * time.Second
}

// DistributedRateLimitConfig is the configuration of the distributed limiter. Times are in the units that
// their names say.
type DistributedRateLimitConfig struct {
	RedisURL                   string `json:"redis_url"` // may have a password: never log it; empty: in memory alone
	PoolSize                   uint32 `json:"pool_size"`
	ConnectionTimeoutMS        uint32 `json:"connection_timeout_ms"`
	CommandTimeoutMS           uint32 `json:"command_timeout_ms"`
	ClusterMode                bool   `json:"cluster_mode"`
	KeyPrefix                  string `json:"key_prefix"`
	DefaultTTLSeconds          uint32 `json:"default_ttl_seconds"`
	EnableCompression          bool   `json:"enable_compression"`
	FallbackToMemory           bool   `json:"fallback_to_memory"`
	HealthCheckIntervalSeconds uint32 `json:"health_check_interval_seconds"`
}

// DefaultDistributedRateLimitConfig has what the limiter took for fields that were left out, and no Redis.
func DefaultDistributedRateLimitConfig() DistributedRateLimitConfig {
	return DistributedRateLimitConfig{
		PoolSize: 10, ConnectionTimeoutMS: 5000, CommandTimeoutMS: 1000, KeyPrefix: "rustci:ratelimit", DefaultTTLSeconds: 3600,
		FallbackToMemory: true, HealthCheckIntervalSeconds: 30,
	}
}

// ParseDistributedRateLimitConfig reads JSON, with the defaults for what it leaves out. Fields that it
// does not know are errors.
func ParseDistributedRateLimitConfig(data []byte) (DistributedRateLimitConfig, error) {
	c := DefaultDistributedRateLimitConfig()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return DistributedRateLimitConfig{}, fmt.Errorf("read the distributed configuration: %w", err)
	}
	if d.More() {
		return DistributedRateLimitConfig{}, fmt.Errorf("read the distributed configuration: there is more behind it (remove it)")
	}
	return c, nil
}

// YAML is what weir's configuration file says for the same: the mappings redis, if there is one, and
// fallback.
func (c DistributedRateLimitConfig) YAML() string {
	var out strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&out, "  %s: %v\n", name, value) }
	if c.RedisURL != "" {
		out.WriteString("redis:\n")
		line("url", strconv.Quote(c.RedisURL))
		line("pool_size", c.PoolSize)
		line("connection_timeout", time.Duration(c.ConnectionTimeoutMS)*time.Millisecond)
		line("command_timeout", time.Duration(c.CommandTimeoutMS)*time.Millisecond)
		line("cluster", c.ClusterMode)
		line("key_prefix", strconv.Quote(c.KeyPrefix))
		line("default_ttl", policy.FormatDuration(seconds(uint64(c.DefaultTTLSeconds))))
		line("compression", c.EnableCompression)
	}
	out.WriteString("fallback:\n")
	line("to_memory", c.FallbackToMemory)
	line("health_check_interval", policy.FormatDuration(seconds(uint64(c.HealthCheckIntervalSeconds))))
	return out.String()
}

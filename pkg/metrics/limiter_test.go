package metrics

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fakeLimiter says what it is told to.
type fakeLimiter struct {
	mu         sync.Mutex
	limiter    Limiter
	table      LimiterTable
	tableReads int
}

var _ LimiterSource = (*fakeLimiter)(nil)

func (f *fakeLimiter) Limiter() Limiter {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.limiter
}

func (f *fakeLimiter) LimiterTable() LimiterTable {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tableReads++
	return f.table
}

func fullLimiter() *fakeLimiter {
	return &fakeLimiter{
		limiter: Limiter{
			Backends: []Backend{{
				Name: "memory", Allowed: 90, Exceeded: 8, Failed: 1,
				Durations: Durations{
					Bounds: []time.Duration{time.Microsecond, 10 * time.Microsecond, time.Millisecond},
					Counts: []uint64{50, 40, 0, 9}, Sum: 1500 * time.Millisecond,
				},
			}},
			Policies:            []RequestPolicy{{"per-user", 60, 5, 0}, {"trial", 30, 0, 7}},
			RedisAvailable:      true,
			ConsecutiveFailures: 3,
			Pressure:            11,
			Tokens:              &Tokens{Keys: 2, Rejected: map[string]uint64{"expired": 4, "signature": 0}},
			UnknownDomains:      new(uint64(13)),
		},
		table: LimiterTable{Capacity: 2048, Claimed: 20, Owing: 4},
	}
}

func newLimiterCollector(s LimiterSource, now func() time.Time) *LimiterCollector {
	return NewLimiterCollector(LimiterOptions{Source: s, Instance: "node-1", Now: now})
}

const limiterText = `
# HELP rate_limiter_consecutive_failures Failures of Redis since it last answered.
# TYPE rate_limiter_consecutive_failures gauge
rate_limiter_consecutive_failures{instance="node-1"} 3
# HELP rate_limiter_identity_keys Keys that tokens are verified by. At 0 no token is believed.
# TYPE rate_limiter_identity_keys gauge
rate_limiter_identity_keys 2
# HELP rate_limiter_identity_rejected_total Tokens that did not verify, by why. Their requests have no user by them.
# TYPE rate_limiter_identity_rejected_total counter
rate_limiter_identity_rejected_total{reason="expired"} 4
rate_limiter_identity_rejected_total{reason="signature"} 0
# HELP rate_limiter_l7_table_capacity Entries that the bucket table of layer 7 has room for.
# TYPE rate_limiter_l7_table_capacity gauge
rate_limiter_l7_table_capacity 2048
# HELP rate_limiter_l7_table_entries Entries of the bucket table of layer 7 that a bucket was given.
# TYPE rate_limiter_l7_table_entries gauge
rate_limiter_l7_table_entries 20
# HELP rate_limiter_l7_table_owing_entries Entries of the bucket table of layer 7 whose bucket is not full.
# TYPE rate_limiter_l7_table_owing_entries gauge
rate_limiter_l7_table_owing_entries 4
# HELP rate_limiter_l7_table_pressure_total Requests of buckets without an entry which found every entry of their set owing tokens.
# TYPE rate_limiter_l7_table_pressure_total counter
rate_limiter_l7_table_pressure_total 11
# HELP rate_limiter_policy_decisions_total What a policy of layer 7 said to requests, by verdict: pass, drop or shadow-drop. What it passed, another may have dropped.
# TYPE rate_limiter_policy_decisions_total counter
rate_limiter_policy_decisions_total{policy="per-user",verdict="drop"} 5
rate_limiter_policy_decisions_total{policy="per-user",verdict="pass"} 60
rate_limiter_policy_decisions_total{policy="per-user",verdict="shadow-drop"} 0
rate_limiter_policy_decisions_total{policy="trial",verdict="drop"} 0
rate_limiter_policy_decisions_total{policy="trial",verdict="pass"} 30
rate_limiter_policy_decisions_total{policy="trial",verdict="shadow-drop"} 7
# HELP rate_limiter_policy_hits_total Requests that a policy of layer 7 applied to.
# TYPE rate_limiter_policy_hits_total counter
rate_limiter_policy_hits_total{policy="per-user"} 65
rate_limiter_policy_hits_total{policy="trial"} 37
# HELP rate_limiter_redis_available Whether Redis answers: 1 or 0. Always 0 where none is configured.
# TYPE rate_limiter_redis_available gauge
rate_limiter_redis_available{instance="node-1"} 1
# HELP rate_limiter_request_duration_seconds How long decisions took, by where the state was kept.
# TYPE rate_limiter_request_duration_seconds histogram
rate_limiter_request_duration_seconds_bucket{backend="memory",le="1e-06"} 50
rate_limiter_request_duration_seconds_bucket{backend="memory",le="1e-05"} 90
rate_limiter_request_duration_seconds_bucket{backend="memory",le="0.001"} 90
rate_limiter_request_duration_seconds_bucket{backend="memory",le="+Inf"} 99
rate_limiter_request_duration_seconds_sum{backend="memory"} 1.5
rate_limiter_request_duration_seconds_count{backend="memory"} 99
# HELP rate_limiter_requests_total Requests that were decided, by where the state was kept (memory, redis, fallback) and result: allowed, exceeded or error.
# TYPE rate_limiter_requests_total counter
rate_limiter_requests_total{backend="memory",result="allowed"} 90
rate_limiter_requests_total{backend="memory",result="error"} 1
rate_limiter_requests_total{backend="memory",result="exceeded"} 8
# HELP rate_limiter_rls_unknown_domains_total Requests of Envoy's rate limit service that passed because their domain has no limits.
# TYPE rate_limiter_rls_unknown_domains_total counter
rate_limiter_rls_unknown_domains_total 13
`

func TestLimiterCollector(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newLimiterCollector(fullLimiter(), time.Now))
	if err := testutil.GatherAndCompare(registry, strings.NewReader(limiterText)); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Every metric of layer 7 has to be told of.
func TestReferenceKnowsEveryMetric(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "API.md"))
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newLimiterCollector(fullLimiter(), time.Now))
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if !strings.Contains(string(text), "`"+family.GetName()) {
			t.Errorf("docs/API.md says nothing of %s", family.GetName())
		}
	}
}

// The daemon serves both collectors from one registry, which refuses a metric that both have.
func TestCollectorsGoTogether(t *testing.T) {
	t.Parallel()
	kernel, err := New(Options{
		Source: fullSource(), Instance: "node-1", Now: time.Now, RequestPolicies: func() int { return len(fullLimiter().limiter.Policies) },
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(kernel, newLimiterCollector(fullLimiter(), time.Now), NewClusterCollector(fullCluster()), NewReloadCollector(func() Reloads { return Reloads{} }))
	const want = `
# HELP rate_limiter_active_policies Policies that are in force: on one interface or more, or for requests of layer 7.
# TYPE rate_limiter_active_policies gauge
rate_limiter_active_policies{instance="node-1"} 4
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "rate_limiter_active_policies"); err != nil {
		t.Error(err)
	}
}

// No label of layer 7 can hold an address, a user or a key.
func TestLimiterLabels(t *testing.T) {
	t.Parallel()
	closed := []string{"backend", "result", "le", "policy", "verdict", "instance", "reason"}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newLimiterCollector(fullLimiter(), time.Now))
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(closed, l.GetName()) {
					t.Errorf("%s has a label %s", family.GetName(), l.GetName())
				}
			}
		}
	}
}

// What a policy counted does not fall when it is taken out of force and put in again between two scrapes, and is
// not counted twice.
func TestPolicyCountersOfReplacedPolicies(t *testing.T) {
	t.Parallel()
	f := &fakeLimiter{}
	c := newLimiterCollector(f, time.Now)
	for i, step := range []struct {
		policies   []RequestPolicy
		hits, drop uint64
	}{
		{[]RequestPolicy{{"a", 10, 3, 1}}, 14, 3},
		{[]RequestPolicy{{"a", 12, 3, 1}}, 16, 3},
		{[]RequestPolicy{{"a", 2, 1, 0}}, 19, 4},                 // it was removed and added
		{[]RequestPolicy{{"b", 5, 5, 0}, {"a", 3, 1, 0}}, 20, 4}, // another one beside it
		{nil, 0, 0},
		{[]RequestPolicy{{"a", 1, 0, 0}}, 1, 0}, // it was gone: a series that begins anew
	} {
		f.limiter.Policies = step.policies
		var hits, drop uint64
		_, all := c.read()
		for _, r := range all {
			switch {
			case r.desc == c.desc.hits && r.labels[0] == "a":
				hits = r.value
			case r.desc == c.desc.decisions && r.labels[0] == "a" && r.labels[1] == "drop":
				drop = r.value
			}
		}
		if hits != step.hits || drop != step.drop {
			t.Errorf("step %d: %d hits and %d drops, want %d and %d", i, hits, drop, step.hits, step.drop)
		}
	}
}

// Without a limiter's decisions there is still every series that does not need one.
func TestIdleLimiter(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newLimiterCollector(&fakeLimiter{limiter: Limiter{Backends: []Backend{{Name: "memory"}}}}, time.Now))
	const want = `
# HELP rate_limiter_redis_available Whether Redis answers: 1 or 0. Always 0 where none is configured.
# TYPE rate_limiter_redis_available gauge
rate_limiter_redis_available{instance="node-1"} 0
# HELP rate_limiter_request_duration_seconds How long decisions took, by where the state was kept.
# TYPE rate_limiter_request_duration_seconds histogram
rate_limiter_request_duration_seconds_bucket{backend="memory",le="+Inf"} 0
rate_limiter_request_duration_seconds_sum{backend="memory"} 0
rate_limiter_request_duration_seconds_count{backend="memory"} 0
# HELP rate_limiter_requests_total Requests that were decided, by where the state was kept (memory, redis, fallback) and result: allowed, exceeded or error.
# TYPE rate_limiter_requests_total counter
rate_limiter_requests_total{backend="memory",result="allowed"} 0
rate_limiter_requests_total{backend="memory",result="error"} 0
rate_limiter_requests_total{backend="memory",result="exceeded"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "rate_limiter_redis_available",
		"rate_limiter_request_duration_seconds", "rate_limiter_requests_total", "rate_limiter_policy_hits_total"); err != nil {
		t.Error(err)
	}
}

func TestLimiterTableIsReadOncePerSecond(t *testing.T) {
	t.Parallel()
	f := fullLimiter()
	now := time.Unix(1000, 0)
	c := newLimiterCollector(f, func() time.Time { return now })
	for _, step := range []struct {
		pass  time.Duration
		reads int
	}{{0, 1}, {tableAge - 1, 1}, {1, 2}} {
		now = now.Add(step.pass)
		if got := testutil.CollectAndCount(c, "rate_limiter_l7_table_entries"); got != 1 || f.tableReads != step.reads {
			t.Errorf("at %v: %d metrics, %d reads, want 1 and %d", now, got, f.tableReads, step.reads)
		}
	}
}

func TestConcurrentScrapesOfTheLimiter(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newLimiterCollector(fullLimiter(), time.Now))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

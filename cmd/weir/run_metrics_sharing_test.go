package main

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/metrics"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// sharedPolicies are one of each kind.
const sharedPolicies = `table: {l7_entries: 1024}
server: {http: ""}
policies:
  - {name: leased, scope: per_user, limit: 100, window: 1m, layer: l7, match: {endpoints: [/leased]}}
  - {name: small, scope: per_user, limit: 5, window: 1m, layer: l7, match: {endpoints: [/small]}}
  - {name: strict, scope: per_user, limit: 100, window: 1m, layer: l7, consistency: strict, on_store_failure: open, match: {endpoints: [/strict]}}
  - {name: closed, scope: per_user, limit: 100, window: 1m, layer: l7, on_store_failure: closed, match: {endpoints: [/closed]}}
  - {name: alone, scope: per_user, limit: 100, window: 1m, layer: l7, consistency: local, match: {endpoints: [/alone]}}
  - {name: off, scope: per_user, limit: 100, window: 1m, layer: l7, mode: "off", match: {endpoints: [/off]}}
`

// bound are the bounds by policy.
func (m *member) bounds() map[string]float64 {
	all := map[string]float64{}
	for _, b := range m.d.Cluster().Bounds {
		all[b.Policy] = b.Tokens
	}
	return all
}

// waitReady waits until all grant from Redis, and know of so many nodes.
func waitReady(t *testing.T, nodes int, all ...*member) {
	t.Helper()
	for _, m := range all {
		wait(t, "nodes that grant", func() error {
			if s := m.d.sharing; !s.Ready() || s.members.Nodes() != nodes {
				return fmt.Errorf("ready: %v, with %d nodes", s.Ready(), s.members.Nodes())
			}
			return nil
		})
	}
}

// Two nodes tell by how much they may exceed each policy together, with Redis and without.
func TestSharingMetrics(t *testing.T) {
	t.Parallel()
	socket, kill := startSocketRedis(t)
	dir := t.TempDir()
	a := newMember(t, "a", socket, dir, sharedPolicies)
	b := newMember(t, "b", socket, t.TempDir(), sharedPolicies)
	waitReady(t, 2, a, b)
	want := map[string]float64{"leased": 10, "small": 0, "strict": 0, "closed": 10, "alone": 100}
	if diff := cmp.Diff(want, a.bounds()); diff != "" {
		t.Errorf("with Redis: %s", diff)
	}
	c := a.d.Cluster()
	if c.Reconcile != nil || c.Alerts != nil || c.Store.Nodes != 2 || c.Store.Breaker != "closed" || c.Store.Opened != 0 ||
		c.Store.Epochs != 1 || c.Store.HeartbeatAge.Seconds() > 3 || c.Store.PolicySet != 0 || c.Store.PolicyRefused {
		t.Errorf("with Redis: %+v of %+v", c, c.Store)
	}
	a.ok("check", "--user", "ann", "--endpoint", "/strict")
	text := a.metrics()
	for _, line := range []string{
		`rate_limiter_requests_total{backend="redis",result="allowed"} 1`, `rate_limiter_requests_total{backend="fallback",result="allowed"} 0`,
		`rate_limiter_requests_total{backend="memory",result="error"} 0`, `rate_limiter_request_duration_seconds_count{backend="redis"} 1`,
		`rate_limiter_over_admission_bound{policy="alone"} 100`, `rate_limiter_redis_errors_total{class="timeout"} 0`, "rate_limiter_nodes 2",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("/metrics has no %s", line)
		}
	}
	if n := a.d.Cluster().Store; n.Redis.Commands == 0 || n.Redis.Keys == 0 || n.Leases.Asks != 1 {
		t.Errorf("after one check: %+v", n)
	}

	kill()
	wait(t, "the breaker", func() error {
		a.ok("check", "--user", "ann", "--endpoint", "/strict")
		if c := a.d.Cluster(); c.Store.Breaker == "closed" || c.Store.Opened != 1 {
			return fmt.Errorf("%+v", c.Store)
		}
		return nil
	})
	want = map[string]float64{"leased": 100, "small": 5, "strict": math.Inf(1), "closed": 10, "alone": 100}
	if diff := cmp.Diff(want, a.bounds()); diff != "" {
		t.Errorf("without Redis: %s", diff)
	}
}

// metrics is what a scrape of the member gets.
func (m *member) metrics() string {
	m.t.Helper()
	w := httptest.NewRecorder()
	m.d.metrics.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		m.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// A daemon on its own exceeds nothing, and tells nothing of Redis.
func TestMetricsWithoutSharing(t *testing.T) {
	t.Parallel()
	m := newMember(t, "a", "", "", fileOf(100))
	if diff := cmp.Diff(map[string]float64{"per-user": 0}, m.bounds()); diff != "" {
		t.Error(diff)
	}
	if c := m.d.Cluster(); c.Store != nil || c.Reconcile != nil || c.Alerts != nil {
		t.Errorf("%+v", c)
	}
	text := m.metrics()
	if strings.Contains(text, `backend="redis"`) || !strings.Contains(text, "\nrate_limiter_over_admission_bound{policy=\"per-user\"} 0\n") {
		t.Errorf("a daemon on its own: %s", text)
	}
}

// A policy of the kernel is shared once the kernel's counts are; until then each node has its own limit.
func TestBoundOfKernelPolicy(t *testing.T) {
	t.Parallel()
	socket, _ := startSocketRedis(t)
	a := newMember(t, "a", socket, t.TempDir(), sharedPolicies)
	b := newMember(t, "b", socket, t.TempDir(), sharedPolicies)
	waitReady(t, 2, a, b)
	s := a.d.sharing
	p := policy.Policy{
		Name: "per-client", Scope: policy.ScopePerIP, Layer: policy.LayerKernel, Limit: 1000, Window: time.Second, Burst: 200,
		Algorithm: policy.AlgorithmTokenBucket, Consistency: policy.ConsistencyReconciled, OnStoreFailure: policy.StoreFailureLocal,
	}
	if got := s.overAdmission(&p); got != 200 || s.reconciling() != nil {
		t.Errorf("before anything is shared: %v, want the other node's burst", got)
	}
	alone := *s // as the daemon reads its own meanwhile
	alone.kernel = &sharedKernel{}
	if got := alone.overAdmission(&p); got != 200 || alone.reconciling() != nil {
		t.Errorf("with nothing to share yet: %v", got)
	}
	alone.kernel.running.Store(ratesync.NewReconciling(ratesync.ReconcileOptions[hotSource]{}))
	// (n - 1) (burst + 2 rate i) + rate i
	if got := alone.overAdmission(&p); got != 200+2*100+100 {
		t.Errorf("shared: %v", got)
	}
	if m := reconcileMetrics(alone.reconciling()); m == nil || *m != (metrics.Reconcile{}) {
		t.Errorf("figures of what has just begun: %+v", m)
	}
}

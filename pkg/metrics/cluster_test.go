package metrics

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"go.yaml.in/yaml/v4"
)

// fakeCluster says what it is told to.
type fakeCluster Cluster

var _ ClusterSource = fakeCluster{}

func (f fakeCluster) Cluster() Cluster { return Cluster(f) }

func fullCluster() fakeCluster {
	return fakeCluster{
		Bounds: []Bound{{"per-user", 20.5}, {"open", math.Inf(1)}},
		Store: &Store{
			Nodes: 3, HeartbeatAge: 250 * time.Millisecond, Skew: -2 * time.Second, Epochs: 2, Breaker: "half-open", Opened: 4,
			Redis: RedisCounts{Commands: 10, Keys: 30, RoundTrips: 5, Errors: map[string]uint64{"timeout": 6, "oom": 0}},
			Leases: LeaseCounts{
				Asks: 101, Waits: 102, Away: 103, Busy: 104, Contended: 105, Expired: 106, Late: 107, Refills: 108, Returned: 109,
				Dropped: 110, Reported: 111, Forgotten: 112, Broken: 113,
			},
			PolicySet: 7, PolicyRefused: true,
		},
		Reconcile: &Reconcile{Tracked: 1, Deferred: 2, Reported: 3, Refused: 4, Shed: 5, Rounds: 6, Failed: 7, Lag: 1500 * time.Millisecond},
		Alerts:    &Alerts{Sent: 1, Failed: 2, Dropped: 3, Retried: 4},
	}
}

// clusterText has the samples, whose help is left to the descriptions.
const clusterText = `
rate_limiter_alerts_retried_total 4
rate_limiter_alerts_total{result="dropped"} 3
rate_limiter_alerts_total{result="failed"} 2
rate_limiter_alerts_total{result="sent"} 1
rate_limiter_breaker_opened_total 4
rate_limiter_breaker_state{state="closed"} 0
rate_limiter_breaker_state{state="half-open"} 1
rate_limiter_breaker_state{state="open"} 0
rate_limiter_heartbeat_age_seconds 0.25
rate_limiter_lease_asks_total 101
rate_limiter_lease_away_total 103
rate_limiter_lease_broken_buckets_total 113
rate_limiter_lease_busy_total 104
rate_limiter_lease_contended_total 105
rate_limiter_lease_dropped_tokens_total 110
rate_limiter_lease_expired_total 106
rate_limiter_lease_forgotten_total 112
rate_limiter_lease_late_total 107
rate_limiter_lease_refills_total 108
rate_limiter_lease_reported_total 111
rate_limiter_lease_returned_tokens_total 109
rate_limiter_lease_waits_total 102
rate_limiter_nodes 3
rate_limiter_over_admission_bound{policy="open"} +Inf
rate_limiter_over_admission_bound{policy="per-user"} 20.5
rate_limiter_policy_set_refused 1
rate_limiter_policy_set_version 7
rate_limiter_reconcile_deferred 2
rate_limiter_reconcile_failed_total 7
rate_limiter_reconcile_lag_seconds 1.5
rate_limiter_reconcile_refused_total 4
rate_limiter_reconcile_reported_total 3
rate_limiter_reconcile_rounds_total 6
rate_limiter_reconcile_shed_total 5
rate_limiter_reconcile_tracked 1
rate_limiter_redis_clock_skew_seconds -2
rate_limiter_redis_commands_total 10
rate_limiter_redis_errors_total{class="oom"} 0
rate_limiter_redis_errors_total{class="timeout"} 6
rate_limiter_redis_keys_total 30
rate_limiter_redis_round_trips_total 5
rate_limiter_store_epochs_total 2
`

// samples are what a collector says, without what explains it.
func samples(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range all {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	lines := slices.DeleteFunc(strings.SplitAfter(text.String(), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
	return "\n" + strings.Join(lines, "")
}

func TestClusterCollector(t *testing.T) {
	t.Parallel()
	c := NewClusterCollector(fullCluster())
	if diff := cmp.Diff(clusterText, samples(t, c)); diff != "" {
		t.Error(diff)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Where nothing is shared there is nothing but the bounds, and with Redis alone nothing of the kernel and of alerts.
func TestClusterCollectorOfLess(t *testing.T) {
	t.Parallel()
	all := fullCluster()
	all.Store, all.Reconcile, all.Alerts = nil, nil, nil
	want := `
rate_limiter_over_admission_bound{policy="open"} +Inf
rate_limiter_over_admission_bound{policy="per-user"} 20.5
`
	if diff := cmp.Diff(want, samples(t, NewClusterCollector(all))); diff != "" {
		t.Error(diff)
	}
	all = fullCluster()
	all.Reconcile, all.Alerts = nil, nil
	got := samples(t, NewClusterCollector(all))
	if strings.Contains(got, "reconcile") || strings.Contains(got, "alerts") || !strings.Contains(got, "rate_limiter_nodes 3\n") {
		t.Errorf("with Redis alone: %s", got)
	}
}

// Every metric of the cluster has to be told of, and none has a label that could hold an address, a user or a key.
func TestClusterReferenceKnowsEveryMetric(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLUSTER.md"))
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewClusterCollector(fullCluster()))
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	closed := []string{"policy", "state", "class", "result"}
	for _, family := range all {
		if !strings.Contains(string(text), "`"+family.GetName()) {
			t.Errorf("docs/CLUSTER.md says nothing of %s", family.GetName())
		}
		for _, l := range family.GetMetric()[0].GetLabel() {
			if !slices.Contains(closed, l.GetName()) {
				t.Errorf("%s has a label %s", family.GetName(), l.GetName())
			}
		}
	}
}

// People copy the alerts: they have to be YAML, each with a name and an expression, and of metrics that there are.
func TestClusterAlertsCanBeCopied(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLUSTER.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(text), "```yaml\n")
	rules, _, _ = strings.Cut(rules, "```")
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(rules), &file); err != nil || len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatalf("%v: %+v, of\n%s", err, file, rules)
	}
	exposed := samples(t, NewClusterCollector(fullCluster()))
	ours := regexp.MustCompile(`rate_limiter_\w+`)
	for _, r := range file.Groups[0].Rules {
		names := ours.FindAllString(r.Expr, -1)
		if r.Alert == "" || len(names) == 0 {
			t.Errorf("rule %+v says nothing", r)
		}
		for _, name := range names {
			if name != "rate_limiter_redis_available" && !strings.Contains(exposed, name) { // that one is of the limiter's metrics
				t.Errorf("%s asks for %s, which is not there", r.Alert, name)
			}
		}
	}
}

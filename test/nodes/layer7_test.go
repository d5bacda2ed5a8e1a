package nodes

import (
	"testing"
	"time"
)

const layer7Configuration = `
table: {l7_entries: 65536}
server: {http: ""}
redis: {key_prefix: test, url: "REDIS", command_timeout: 200ms}
fallback: {policy_cache: ""}
policies:
  - {name: leased, scope: per_user, limit: 600, window: 1s, burst: 600, match: {endpoints: [/leased]}, consistency: leased}
  - {name: strict, scope: per_user, limit: 300, window: 1s, burst: 60, match: {endpoints: [/strict]}, consistency: strict}
`

// TestLeased holds the bound of leases, and that they leave little of the limit unused, however the load is spread.
func TestLeased(t *testing.T) {
	const limit, burst, eps, lasts = 600.0, 600.0, 0.1, 3 * time.Second
	r := newRig(t, layer7Configuration)
	r.start()
	for _, c := range []struct {
		name  string
		rates func(node int, at time.Duration) float64
	}{
		{"even", even(2 * limit / 3)},
		{"skewed", func(node int, _ time.Duration) float64 { return []float64{0.9, 0.05, 0.05}[node] * 2 * limit }},
		{"moving", func(node int, at time.Duration) float64 {
			if int(at/(500*time.Millisecond))%3 == node {
				return 2 * limit
			}
			return 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, began := r.redis.operations(), time.Now()
			all := asking{endpoint: "/leased", user: c.name, rates: c.rates, last: lasts}.run(t, began, r.nodes...)
			r.report(t, all, before, burst+limit*lasts.Seconds())
			if got := excess(all.admitted, limit); got > (1+eps)*burst {
				t.Errorf("%.0f beyond the rate, above (1 + eps) burst of %.0f", got, (1+eps)*burst)
			}
			if used := float64(len(all.admitted)) / (burst + limit*lasts.Seconds()); used < 0.9 {
				t.Errorf("only %.2f of the limit was usable", used)
			}
		})
	}
}

// TestStrict holds the bound of what is asked for each decision.
func TestStrict(t *testing.T) {
	const limit, burst, lasts = 300.0, 60.0, 3 * time.Second
	r := newRig(t, layer7Configuration)
	r.start()
	before, began := r.redis.operations(), time.Now()
	all := asking{endpoint: "/strict", user: "alice", rates: even(2 * limit / 3), last: lasts}.run(t, began, r.nodes...)
	r.report(t, all, before, burst+limit*lasts.Seconds())
	if got := excess(all.admitted, limit); got > burst+0.001 {
		t.Errorf("%.2f beyond the rate, above the burst of %.0f", got, burst)
	}
	if used := float64(len(all.admitted)) / (burst + limit*lasts.Seconds()); used < 0.95 {
		t.Errorf("only %.2f of the limit was usable", used)
	}
}

// report prints what came of a load, and holds that every question was answered.
func (r *rig) report(t *testing.T, all asked, before int, allowed float64) {
	t.Helper()
	operations := r.redis.operations() - before
	t.Logf("%d asked, %d admitted (%v by node), %.3f of limit and burst; Redis: %d operations, %.1f per 1000 decisions; slowest %v",
		all.total(), len(all.admitted), all.byNode, float64(len(all.admitted))/allowed, operations, 1000*float64(operations)/float64(all.total()), all.slowest)
	for _, err := range all.failed {
		t.Error(err)
	}
}

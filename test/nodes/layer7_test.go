package nodes

import (
	"sync"
	"testing"
	"time"
)

const layer7Configuration = `
table: {l7_entries: 65536}
server: {http: ""}
redis: {key_prefix: test, url: "REDIS", command_timeout: 200ms}
fallback: {policy_cache: ""}
policies:
  - {name: leased, scope: per_user, limit: 400, window: 1s, burst: 400, match: {endpoints: [/leased]}, consistency: leased}
  - {name: strict, scope: per_user, limit: 300, window: 1s, burst: 60, match: {endpoints: [/strict]}, consistency: strict}
`

// TestLeased holds the bound of leases, and that they leave little of the limit unused, however the load is spread: of three
// users at the same time.
func TestLeased(t *testing.T) {
	const limit, burst, eps, lasts = 400.0, 400.0, 0.1, 5 * time.Second
	r := newRig(t, layer7Configuration)
	r.start()
	loads := []struct {
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
	}
	results := make([]asked, len(loads))
	before, began := r.redis.operations(), time.Now()
	var wg sync.WaitGroup
	for i, l := range loads {
		wg.Go(func() {
			results[i] = asking{endpoint: "/leased", user: l.name, rates: l.rates, last: lasts}.run(t, began, r.nodes...)
		})
	}
	wg.Wait()
	operations, total := r.redis.operations()-before, 0
	for i, l := range loads {
		all := &results[i]
		total += all.total()
		r.report(t, l.name, all, burst+limit*lasts.Seconds())
		if got := excess(all.admitted, limit); got > (1+eps)*burst {
			t.Errorf("%s: %.0f beyond the rate, above (1 + eps) burst of %.0f", l.name, got, (1+eps)*burst)
		}
		if used := float64(len(all.admitted)) / (burst + limit*lasts.Seconds()); used < 0.9 {
			t.Errorf("%s: only %.2f of the limit was usable", l.name, used)
		}
	}
	t.Logf("Redis: %d operations, %.1f per 1000 decisions", operations, 1000*float64(operations)/float64(total))
}

// TestStrict holds the bound of what is asked for each decision.
func TestStrict(t *testing.T) {
	const limit, burst, lasts = 300.0, 60.0, 3 * time.Second
	r := newRig(t, layer7Configuration)
	r.start()
	before, began := r.redis.operations(), time.Now()
	all := asking{endpoint: "/strict", user: "alice", rates: even(2 * limit / 3), last: lasts}.run(t, began, r.nodes...)
	operations := r.redis.operations() - before
	r.report(t, "strict", &all, burst+limit*lasts.Seconds())
	t.Logf("Redis: %d operations, %.1f per 1000 decisions", operations, 1000*float64(operations)/float64(all.total()))
	if got := excess(all.admitted, limit); got > burst+0.001 {
		t.Errorf("%.2f beyond the rate, above the burst of %.0f", got, burst)
	}
	if used := float64(len(all.admitted)) / (burst + limit*lasts.Seconds()); used < 0.95 {
		t.Errorf("only %.2f of the limit was usable", used)
	}
}

// report prints what came of a load, and holds that every question was answered.
func (r *rig) report(t *testing.T, name string, all *asked, allowed float64) {
	t.Helper()
	t.Logf("%s: %d asked, %d admitted (%v by node), %.3f of limit and burst; slowest %v",
		name, all.total(), len(all.admitted), all.byNode, float64(len(all.admitted))/allowed, all.slowest.Round(100*time.Microsecond))
	for _, err := range all.failed {
		t.Error(err)
	}
}

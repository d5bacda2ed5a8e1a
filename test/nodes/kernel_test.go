package nodes

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// reconcileCap is how many sources a node reports in a round at most: the default of ratesync.ReconcileConfig.
const reconcileCap = 2000

const kernelConfiguration = `
interfaces: [{name: eth0, hook: xdp}]
table: {entries: 65536, l7_entries: 65536}
server: {http: ""}
redis: {key_prefix: test, url: "REDIS", interval: 100ms, command_timeout: 200ms}
fallback: {policy_cache: ""}
policies:
  - {name: per-source, scope: per_ip, limit: 2000, window: 1s, burst: 400, layer: kernel, consistency: reconciled}
`

// TestKernelSpray is one source that sends to all nodes, twenty times its limit in all.
func TestKernelSpray(t *testing.T) {
	const (
		limit, burst = 2000.0, 400.0
		interval     = 100 * time.Millisecond
		lasts        = 10 * time.Second
	)
	r := newRig(t, kernelConfiguration)
	r.start()
	before := r.redis.operations()
	arrived, sent := r.spray(netip.MustParseAddr("192.0.2.77"), 20*limit/3, interval, int(lasts/interval))
	operations := r.redis.operations() - before

	first, all := arrived[2], arrived[len(arrived)-1] // the first interval ends within the second step, and is answered in the third
	steady := float64(all-first) / (lasts - 3*interval).Seconds()
	// What CPUs lease comes on top of the burst, as on one node.
	beyond := ratesync.OverAdmission(policy.ConsistencyReconciled, &ratesync.Limit{Limit: limit, Window: time.Second, Burst: burst},
		ratesync.Bounding{Nodes: 3, Interval: interval, Arrival: 20 * limit / 3})
	bound := burst*(1+1.0/16) + limit*lasts.Seconds() + beyond
	t.Logf("one source, %.0f/s at three nodes, limit %.0f/s, burst %.0f, %v: sent %d, admitted %d, %.3f of limit and burst; after the first interval %.0f/s, %.3f of the limit; stated bound %.0f; Redis: %d operations, %.2f per 1000 packets",
		20*limit, limit, burst, lasts, sent, all, float64(all)/(burst+limit*lasts.Seconds()), steady, steady/limit, bound, operations, 1000*float64(operations)/float64(sent))
	if steady < 0.95*limit || steady > 1.05*limit {
		t.Errorf("%.0f/s after the first interval, want %.0f within 5 %%", steady, limit)
	}
	if float64(all) > bound {
		t.Errorf("admitted %d, above the stated bound of %.0f", all, bound)
	}
	if float64(sent) < 0.9*20*limit*lasts.Seconds() {
		t.Errorf("only %d packets were sent", sent)
	}
}

// TestKernelShare is on_store_failure share in the kernel: nodes that have lost Redis admit the limit together.
func TestKernelShare(t *testing.T) {
	const limit, burst, lasts = 2000.0, 400.0, 3 * time.Second
	r := newRig(t, strings.Replace(kernelConfiguration, "consistency: reconciled", "consistency: reconciled, on_store_failure: share", 1))
	r.start()
	r.redis.kill()
	for _, n := range r.nodes {
		eventually(t, n.name+" to miss Redis", func() error {
			h, err := n.health()
			if err == nil && h.RedisAvailable {
				err = fmt.Errorf("%+v", h)
			}
			return err
		})
	}
	arrived, _ := r.spray(netip.MustParseAddr("192.0.2.79"), 20*limit/3, 100*time.Millisecond, int(lasts/(100*time.Millisecond)))
	first, all := arrived[2], arrived[len(arrived)-1]
	steady := float64(all-first) / (lasts - 300*time.Millisecond).Seconds()
	t.Logf("nodes without Redis that share: %.0f/s after the first interval, %.2f of the limit", steady, steady/limit)
	if steady < 0.85*limit || steady > 1.1*limit {
		t.Errorf("%.0f/s, want about %.0f", steady, limit)
	}
}

// TestKernelAlone shows what the one above is worth: each node for itself admits the whole limit.
func TestKernelAlone(t *testing.T) {
	const limit = 2000.0
	r := newRig(t, kernelConfiguration)
	r.redis.kill()
	for _, n := range r.nodes {
		n.start()
	}
	arrived, _ := r.spray(netip.MustParseAddr("192.0.2.78"), 20*limit/3, 100*time.Millisecond, 30)
	all := float64(arrived[len(arrived)-1])
	t.Logf("without Redis, 3 s: admitted %.0f, %.2f of one node's limit and burst", all, all/(400+3*limit))
	if want := 3 * (400 + 3*limit); all < 0.9*want || all > 1.1*want {
		t.Errorf("admitted %.0f, want about %.0f", all, want)
	}
}

// TestKernelFlood is a flood of forged sources, each of which reaches its part of so low a limit with its first packet: Redis
// hears of no more of them than its cap.
func TestKernelFlood(t *testing.T) {
	const rate, lasts = 100_000.0, 3 * time.Second
	r := newRig(t, strings.Replace(kernelConfiguration, "limit: 2000, window: 1s, burst: 400", "limit: 10, window: 1s, burst: 5", 1))
	r.start()
	operations, busy := r.redis.operations(), r.redis.busy()
	sent := r.flood(rate, lasts)
	perSecond := float64(r.redis.operations()-operations) / lasts.Seconds()
	share := (r.redis.busy() - busy).Seconds() / lasts.Seconds()
	var reported, deferred float64
	for _, n := range r.nodes {
		reported += n.metric("rate_limiter_reconcile_reported_total")
		deferred += n.metric("rate_limiter_reconcile_refused_total") + n.metric("rate_limiter_reconcile_shed_total")
	}
	t.Logf("%.0f forged sources a second for %v: %d sent; %.0f sources/s reported by three nodes, %.0f left out; Redis: %.0f operations/s, %.2f of a processor",
		rate, lasts, sent, reported/lasts.Seconds(), deferred, perSecond, share)
	if float64(sent) < 0.5*rate*lasts.Seconds() {
		t.Errorf("only %d packets were sent", sent)
	}
	rounds := 3 * (lasts.Seconds() + 1) * float64(time.Second/(100*time.Millisecond))
	if reported == 0 || reported > rounds*reconcileCap {
		t.Errorf("%.0f sources reported, want some, and at most %.0f", reported, rounds*reconcileCap)
	}
	// A script call takes 128 keys at most; heartbeats and policies come on top.
	if most := 3*10*math.Ceil(reconcileCap/128.0) + 100; perSecond > most {
		t.Errorf("%.0f operations a second, above the cap of %.0f", perSecond, most)
	}
}

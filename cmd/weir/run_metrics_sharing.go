package main

import (
	"math"
	"time"

	"github.com/weir-limiter/weir/pkg/fallback"
	"github.com/weir-limiter/weir/pkg/metrics"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

var _ metrics.ClusterSource = (*daemon)(nil)

// Cluster reads how this node stands with the others. It asks nobody.
func (d *daemon) Cluster() metrics.Cluster {
	c := metrics.Cluster{Bounds: d.bounds()}
	s := d.sharing
	if s == nil {
		return c
	}
	c.Store = s.storeMetrics(time.Now())
	c.Store.PolicySet, c.Store.PolicyRefused = d.cluster.version(), d.cluster.refusing()
	c.Reconcile, c.Alerts = reconcileMetrics(s.reconciling()), alertMetrics(s.webhook, s.guard.State().AlertsDropped)
	return c
}

// refusing tells whether the cluster has policies that this node can't take.
func (c *clusterPolicies) refusing() bool { return c != nil && c.follower.Status().Reason != "" }

func (s *sharing) storeMetrics(now time.Time) *metrics.Store {
	g, m, r, f := s.guard.State(), s.members.State(), s.redis.Stats(), s.sharer.Figures()
	all := &metrics.Store{
		Nodes: m.Nodes, HeartbeatAge: s.heartbeatAge(m, now), Skew: m.Skew, Epochs: m.Epochs, Breaker: g.Breaker, Opened: g.Opened,
		Redis: metrics.RedisCounts{Commands: r.Commands, Keys: r.Keys, RoundTrips: r.RoundTrips, Errors: map[string]uint64{}},
		Leases: metrics.LeaseCounts{
			Asks: f.Asks, Waits: f.Waits, Away: f.Away, Busy: f.Busy, Contended: f.Contended, Expired: f.Expired, Late: f.Late,
			Refills: f.Refills, Returned: f.Returned, Dropped: f.Dropped, Reported: f.Reported, Forgotten: f.Forgotten, Broken: f.Broken,
		},
	}
	for _, class := range ratesync.Classes() {
		all.Redis.Errors[class.String()] = r.Errors[class]
	}
	return all
}

// heartbeatAge is that of the last heartbeat which was answered, or of the daemon: an alert has to see that there never was one.
func (s *sharing) heartbeatAge(m ratesync.MembershipState, now time.Time) time.Duration {
	since := m.LastBeat
	if since.IsZero() {
		since = s.opened
	}
	return max(0, now.Sub(since))
}

// reconciling are the figures of what keeps the kernel's limits the cluster's; nil: nothing does.
func (s *sharing) reconciling() *ratesync.ReconcilingStats {
	if s.kernel == nil {
		return nil
	}
	return s.kernel.stats()
}

func reconcileMetrics(s *ratesync.ReconcilingStats) *metrics.Reconcile {
	if s == nil {
		return nil
	}
	return &metrics.Reconcile{
		Tracked: s.Tracked, Deferred: s.Deferred, Reported: s.Reports, Refused: s.Refused + s.Dropped, Shed: s.Shed,
		Rounds: s.Rounds, Failed: s.Failed, Lag: s.Lag,
	}
}

// alertMetrics counts what became of alerts, those among them that never came to the webhook.
func alertMetrics(w *fallback.Webhook, dropped uint64) *metrics.Alerts {
	if w == nil {
		return nil
	}
	s := w.State()
	return &metrics.Alerts{Sent: s.Sent, Failed: s.Failed, Dropped: s.Dropped + dropped, Retried: s.Retried}
}

// bounds are those of the policies that decide anything here.
func (d *daemon) bounds() []metrics.Bound {
	all := d.requests.limiter.Document().Policies
	var bounds []metrics.Bound
	for i := range all {
		if p := &all[i]; p.Mode != policy.ModeOff {
			bounds = append(bounds, metrics.Bound{Policy: p.Name, Tokens: d.sharing.overAdmission(p)})
		}
	}
	return bounds
}

// overAdmission is by how many tokens the nodes may exceed a policy, as things are now. A daemon on its own exceeds none.
func (s *sharing) overAdmission(p *policy.Policy) float64 {
	if s == nil {
		return 0
	}
	c := p.Consistency
	if c == policy.ConsistencyReconciled && s.reconciling() == nil || c == "" {
		c = policy.ConsistencyLocal // nobody tells the others
	}
	b := ratesync.Bounding{Nodes: s.members.Nodes(), LeaseShare: s.config.LeaseShare, Interval: s.config.Interval}
	if c != policy.ConsistencyLocal && !s.Ready() {
		switch p.OnStoreFailure {
		case policy.StoreFailureOpen:
			return math.Inf(1)
		case policy.StoreFailureLocal, policy.StoreFailureShare:
			b.Alone = true
		}
	}
	if s.actsStrict(p) {
		c = policy.ConsistencyStrict
	}
	return ratesync.OverAdmission(c, limitOf(p), b)
}

// limitOf is what nodes share of a policy.
func limitOf(p *policy.Policy) *ratesync.Limit {
	return &ratesync.Limit{Algorithm: p.Algorithm, Limit: p.Limit, Window: time.Duration(p.Window), Burst: p.Burst}
}

// actsStrict tells whether a leased policy asks Redis for each decision, as its burst is too small for so many nodes.
func (s *sharing) actsStrict(p *policy.Policy) bool {
	if p.Layer != policy.LayerL7 || p.Consistency != policy.ConsistencyLeased {
		return false
	}
	shared, err := s.sharer.Share(*p)
	return err == nil && s.sharer.ActsStrict(shared)
}

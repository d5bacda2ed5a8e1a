package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ClusterSource is what a [ClusterCollector] reads. Its method may be called by several goroutines at once, and must not
// wait for the store.
type ClusterSource interface {
	Cluster() Cluster
}

// Cluster is how this node stands with the others, as it knows by itself: what is nil there is not.
type Cluster struct {
	// Bounds have each policy once, be it of the kernel or of layer 7.
	Bounds    []Bound
	Store     *Store     // nil: no Redis is configured
	Reconcile *Reconcile // nil: nothing of the kernel is shared
	Alerts    *Alerts    // nil: nobody is told
}

// Bound is by how much the nodes together may admit more than a policy says.
type Bound struct {
	Policy string
	Tokens float64 // beyond burst + rate * t, where rate is that of all nodes if each has the whole; +Inf: without end
}

// Store is what shares counts through Redis. Its counters never fall.
type Store struct {
	Nodes        int
	HeartbeatAge time.Duration // of the last heartbeat that was answered; if none was, the time since the start
	Skew         time.Duration // of Redis' clock, ahead of this node's
	Epochs       uint64        // of Redis' data that were seen
	// Breaker is closed, open or half-open; Opened counts how often it opened.
	Breaker string
	Opened  uint64
	Redis   RedisCounts
	Leases  LeaseCounts
	// PolicySet is the version of the cluster's policies in force, 0 for none; PolicyRefused says that there is a version
	// that this node can't take.
	PolicySet     uint64
	PolicyRefused bool
}

// RedisCounts are what decisions and reports cost.
type RedisCounts struct {
	Commands, Keys, RoundTrips uint64
	Errors                     map[string]uint64 // by class, of a closed set
}

// LeaseCounts are what became of the questions of limits that are shared, and of the tokens that this node held.
type LeaseCounts struct {
	Asks, Waits, Away, Busy, Contended, Expired, Late, Refills uint64
	Returned, Dropped                                          uint64 // tokens
	Reported, Forgotten, Broken                                uint64 // buckets
}

// Reconcile is what keeps the kernel's limits the cluster's.
type Reconcile struct {
	Tracked, Deferred                       int // sources, now
	Reported, Refused, Shed, Rounds, Failed uint64
	Lag                                     time.Duration
}

// Alerts are what became of alerts.
type Alerts struct {
	Sent, Failed, Dropped, Retried uint64
}

// ClusterCollector is a [prometheus.Collector] over what shares counts with other nodes.
type ClusterCollector struct {
	source ClusterSource
	desc   clusterDescriptions
}

var _ prometheus.Collector = (*ClusterCollector)(nil)

// clusterDescriptions are the metrics with labels, all of them closed sets or names of policies.
type clusterDescriptions struct {
	bound, breaker, errors, alerts *prometheus.Desc
}

func (d clusterDescriptions) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.bound, d.breaker, d.errors, d.alerts}
}

// NewClusterCollector makes a collector that asks the source at every scrape.
func NewClusterCollector(s ClusterSource) *ClusterCollector {
	return &ClusterCollector{s, clusterDescriptions{
		bound: describeOne("over_admission_bound",
			"Tokens that all nodes together may admit of one bucket beyond burst + rate * t, in any interval t, as things are now. Where each node has the whole limit, rate is that of all of them.",
			"policy"),
		breaker: describeOne("breaker_state", "Whether the breaker before Redis is closed, open or half-open: 1 or 0.", "state"),
		errors:  describeOne("redis_errors_total", "Errors of Redis, by class; state is one bucket's alone.", "class"),
		alerts:  describeOne("alerts_total", "Alerts that Redis went away or is back, by what became of them: sent, failed or dropped.", "result"),
	}}
}

// breakerStates are those that a breaker has.
var breakerStates = []string{"closed", "open", "half-open"}

// Describe sends the description of every metric.
func (c *ClusterCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.desc.all() {
		ch <- d
	}
	describeFigures(ch, storeFigures)
	describeFigures(ch, reconcileFigures)
	describeFigures(ch, alertFigures)
}

// Collect reads the source and sends what it says.
func (c *ClusterCollector) Collect(ch chan<- prometheus.Metric) {
	all, out := c.source.Cluster(), sink{ch}
	for _, b := range all.Bounds {
		out.send(c.desc.bound, prometheus.GaugeValue, b.Tokens, []string{b.Policy})
	}
	if s := all.Store; s != nil {
		c.collectStore(out, s)
	}
	if r := all.Reconcile; r != nil {
		collectFigures(out, reconcileFigures, r)
	}
	if a := all.Alerts; a != nil {
		collectFigures(out, alertFigures, a)
		out.counter(c.desc.alerts, a.Sent, "sent")
		out.counter(c.desc.alerts, a.Failed, "failed")
		out.counter(c.desc.alerts, a.Dropped, "dropped")
	}
}

func (c *ClusterCollector) collectStore(out sink, s *Store) {
	collectFigures(out, storeFigures, s)
	for _, state := range breakerStates {
		is := 0
		if state == s.Breaker {
			is = 1
		}
		out.gauge(c.desc.breaker, is, state)
	}
	for class, n := range s.Redis.Errors {
		out.counter(c.desc.errors, n, class)
	}
}

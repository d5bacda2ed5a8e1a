package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-limiter/weir/pkg/policy"
)

// LimiterSource is what a [LimiterCollector] reads. Its methods may be called by several goroutines at once.
type LimiterSource interface {
	// Limiter reads what the limiter of layer 7 counted.
	Limiter() Limiter
	// LimiterTable reads how full its bucket table is. It may be expensive: see [LimiterCollector].
	LimiterTable() LimiterTable
}

// Limiter is what the limiter of layer 7 counted until the moment at which it was read.
type Limiter struct {
	// Backends have each place that state is kept in once: memory, and with Redis redis and fallback.
	Backends []Backend
	// Policies have each policy of layer 7 once.
	Policies []RequestPolicy
	// RedisAvailable is false where no Redis is configured.
	RedisAvailable bool
	// ConsecutiveFailures are those of Redis since it last answered.
	ConsecutiveFailures uint64
	// Pressure counts requests of buckets without an entry which found all entries of their set owing.
	Pressure uint64
	// Tokens is what became of the tokens that say who asks; nil: none are verified.
	Tokens *Tokens
	// UnknownDomains counts the requests of Envoy's service that passed because their domain has no limits;
	// nil: nobody serves it.
	UnknownDomains *uint64
}

// Tokens is what became of tokens.
type Tokens struct {
	Keys     int               // that they are verified by
	Rejected map[string]uint64 // by why
}

// Backend has the decisions that were made by what is kept in one place.
type Backend struct {
	Name string
	// Allowed and Exceeded are the requests by what was said to them, Failed those that could not be decided.
	Allowed, Exceeded, Failed uint64
	Durations                 Durations
}

// Durations is a histogram of how long decisions took.
type Durations struct {
	Bounds []time.Duration // upper, included, rising
	Counts []uint64        // of each bound, not cumulated, and one more for what took longer
	Sum    time.Duration
}

// RequestPolicy has the decisions of one policy: what it said by itself, be it that another one denied what it
// allowed.
type RequestPolicy struct {
	Name                              string
	Allowed, Exceeded, ShadowExceeded uint64
}

// LimiterTable says how full the bucket table of layer 7 is, in entries.
type LimiterTable struct {
	Capacity int // that there are
	Claimed  int // that a bucket was given
	Owing    int // of these, the ones whose bucket is not full
}

// LimiterOptions says what a [LimiterCollector] needs. All fields are required.
type LimiterOptions struct {
	Source   LimiterSource
	Instance string
	Now      func() time.Time
}

// LimiterCollector is a [prometheus.Collector] over the limiter of layer 7. As a [Collector] does, it reads the
// counters at every scrape, and the table's occupancy once per second at most. What a policy counted does not
// fall when it is taken out of force and put in again between two scrapes.
type LimiterCollector struct {
	source   LimiterSource
	table    *cached[LimiterTable]
	desc     limiterDescriptions
	instance string

	mu   sync.Mutex // from before a read until it is in sums, or an older one might come last
	sums sums
}

var _ prometheus.Collector = (*LimiterCollector)(nil)

// limiterDescriptions are the metrics of layer 7. Their labels are closed sets or names of policies.
type limiterDescriptions struct {
	requests, durations, hits, decisions *prometheus.Desc
	redis, failures                      *prometheus.Desc
	entries, owing, capacity, pressure   *prometheus.Desc
	rejected, keys, unknown              *prometheus.Desc
}

func (d limiterDescriptions) all() []*prometheus.Desc {
	return []*prometheus.Desc{
		d.requests, d.durations, d.hits, d.decisions, d.redis, d.failures, d.entries, d.owing, d.capacity, d.pressure,
		d.rejected, d.keys, d.unknown,
	}
}

func describeLimiter() limiterDescriptions {
	return limiterDescriptions{
		requests: describeOne("requests_total",
			"Requests that were decided, by where the state was kept (memory, redis, fallback) and result: allowed, exceeded or error.",
			"backend", "result"),
		durations: describeOne("request_duration_seconds", "How long decisions took, by where the state was kept.", "backend"),
		hits:      describeOne("policy_hits_total", "Requests that a policy of layer 7 applied to.", "policy"),
		decisions: describeOne("policy_decisions_total",
			"What a policy of layer 7 said to requests, by verdict: pass, drop or shadow-drop. What it passed, another may have dropped.",
			"policy", "verdict"),
		redis:    describeOne("redis_available", "Whether Redis answers: 1 or 0. Always 0 where none is configured.", "instance"),
		failures: describeOne("consecutive_failures", "Failures of Redis since it last answered.", "instance"),
		entries:  describeOne("l7_table_entries", "Entries of the bucket table of layer 7 that a bucket was given."),
		owing:    describeOne("l7_table_owing_entries", "Entries of the bucket table of layer 7 whose bucket is not full."),
		capacity: describeOne("l7_table_capacity", "Entries that the bucket table of layer 7 has room for."),
		pressure: describeOne("l7_table_pressure_total",
			"Requests of buckets without an entry which found every entry of their set owing tokens."),
		rejected: describeOne("identity_rejected_total",
			"Tokens that did not verify, by why. Their requests have no user by them.", "reason"),
		keys: describeOne("identity_keys", "Keys that tokens are verified by. At 0 no token is believed."),
		unknown: describeOne("rls_unknown_domains_total",
			"Requests of Envoy's rate limit service that passed because their domain has no limits."),
	}
}

// NewLimiterCollector makes a collector.
func NewLimiterCollector(o LimiterOptions) *LimiterCollector {
	read := func() (LimiterTable, error) { return o.Source.LimiterTable(), nil }
	return &LimiterCollector{
		source:   o.Source,
		table:    &cached[LimiterTable]{read: read, now: o.Now, maxAge: tableAge},
		desc:     describeLimiter(),
		instance: o.Instance,
		sums:     sums{},
	}
}

// Describe sends the description of every metric.
func (c *LimiterCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c.desc.all() {
		ch <- one
	}
}

// Collect reads the source and sends what it says.
func (c *LimiterCollector) Collect(ch chan<- prometheus.Metric) {
	out := sink{ch}
	l, counters := c.read()
	for _, r := range counters {
		out.counter(r.desc, r.value, r.labels...)
	}
	for _, b := range l.Backends {
		out.histogram(c.desc.durations, b.Durations, b.Name)
	}
	available := 0
	if l.RedisAvailable {
		available = 1
	}
	out.gauge(c.desc.redis, available, c.instance)
	out.gauge(c.desc.failures, int(l.ConsecutiveFailures), c.instance)
	if l.Tokens != nil {
		out.gauge(c.desc.keys, l.Tokens.Keys)
	}
	t, _ := c.table.get() // can't fail
	out.gauge(c.desc.entries, t.Claimed)
	out.gauge(c.desc.owing, t.Owing)
	out.gauge(c.desc.capacity, t.Capacity)
}

func (c *LimiterCollector) read() (Limiter, []reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.source.Limiter()
	for _, b := range l.Backends {
		for result, n := range map[string]uint64{"allowed": b.Allowed, "exceeded": b.Exceeded, "error": b.Failed} {
			c.sums.add("", c.desc.requests, n, b.Name, result)
		}
	}
	for _, p := range l.Policies {
		c.sums.add("", c.desc.hits, p.Allowed+p.Exceeded+p.ShadowExceeded, p.Name)
		for verdict, n := range map[policy.Verdict]uint64{
			policy.VerdictPass: p.Allowed, policy.VerdictDrop: p.Exceeded, policy.VerdictShadowDrop: p.ShadowExceeded,
		} {
			c.sums.add("", c.desc.decisions, n, p.Name, string(verdict))
		}
	}
	c.sums.add("", c.desc.pressure, l.Pressure)
	if l.Tokens != nil {
		for reason, n := range l.Tokens.Rejected {
			c.sums.add("", c.desc.rejected, n, reason)
		}
	}
	if l.UnknownDomains != nil {
		c.sums.add("", c.desc.unknown, *l.UnknownDomains)
	}
	return l, c.sums.read()
}

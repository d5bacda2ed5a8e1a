package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Build identifies the program that is running.
type Build struct {
	Version  string // of the module, such as v1.2.3
	Revision string // of the source, as the version control system names it
	Go       string // version of the compiler
}

// Options says what a [Collector] needs. All fields are required but Source and RequestPolicies.
type Options struct {
	// Source is the kernel; nil: weir has nothing to do with it, and there are none of its metrics.
	Source Source
	// Instance is this daemon's name, for the metrics of the contract that have such a label.
	Instance string
	Build    Build
	// RequestPolicies tells how many policies of layer 7 are in force: as a policy is of one layer, they are
	// counted beside those of the kernel. Nil: there is no layer 7.
	RequestPolicies func() int
	// Now is the clock that the age of the table's count is measured by.
	Now func() time.Time
}

// Collector is a [prometheus.Collector] over a [Source].
//
// It reads the counters at every scrape, and sums those of one interface over its hooks. The table's
// occupancy takes a walk over all of the table, 16 MiB by default, and the number of bans one over all
// of these, so that is done once per second at most, however often and by however many the
// daemon is scraped. If the source fails, what it would have given is missing from the scrape and
// the error is reported in its place; what other collectors give is not affected.
type Collector struct {
	source   Source
	table    *cached[Table]
	bans     *cached[Bans]
	build    prometheus.Metric
	desc     descriptions
	instance string
	requests func() int

	mu   sync.Mutex // from before a read of the kernel until it is in sums, or an older one might come last
	sums sums
}

var _ prometheus.Collector = (*Collector)(nil)

// tableAge is how old a count of the table's entries, or of the bans, may be.
const tableAge = time.Second

// New makes a collector. It fails if a label's value is not valid UTF-8.
func New(o Options) (*Collector, error) {
	d := describe()
	build, err := prometheus.NewConstMetric(d.build, prometheus.GaugeValue, 1, o.Build.Version, o.Build.Revision, o.Build.Go)
	if err != nil {
		return nil, err
	}
	c := &Collector{source: o.Source, sums: sums{}, build: build, desc: d, instance: o.Instance, requests: o.RequestPolicies}
	if o.Source != nil {
		c.table = &cached[Table]{read: o.Source.Table, now: o.Now, maxAge: tableAge}
		c.bans = &cached[Bans]{read: o.Source.BanCounts, now: o.Now, maxAge: tableAge}
	}
	return c, nil
}

// Describe sends the description of every metric.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.desc.all() {
		ch <- d
	}
}

// Collect reads the source and sends what it says.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	ch <- c.build
	out := sink{ch}
	if c.source == nil {
		c.collectPolicies(out, 0)
		return
	}
	c.collectKernel(out)
	c.collectTable(out)
	c.collectBans(out)
}

// collectPolicies counts the policies of the kernel and of layer 7.
func (c *Collector) collectPolicies(out sink, kernel int) {
	if c.requests != nil {
		kernel += c.requests()
	}
	out.gauge(c.desc.policies, kernel, c.instance)
}

func (c *Collector) collectKernel(out sink) {
	counters, policies, err := c.readKernel()
	if err != nil {
		out.fail(c.desc.packets, "read the kernel's counters", err)
		return
	}
	for _, r := range counters {
		out.counter(r.desc, r.value, r.labels...)
	}
	c.collectPolicies(out, policies)
}

func (c *Collector) readKernel() (counters []reading, policies int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.source.Kernel()
	if err != nil {
		return nil, 0, err
	}
	// These are there even while nothing is attached.
	c.sums.add("", c.desc.pressure, 0)
	c.sums.add("", c.desc.lost, 0)
	for i := range k.Attachments {
		c.add(&k.Attachments[i])
	}
	return c.sums.read(), k.Policies, nil
}

func (c *Collector) add(a *Attachment) {
	at, sums := a.Interface+" "+a.Hook, c.sums
	for _, p := range a.Policies {
		for verdict, n := range p.Verdicts {
			sums.add(at, c.desc.packets, n.Packets, a.Interface, p.Name, string(verdict))
			sums.add(at, c.desc.bytes, n.Bytes, a.Interface, p.Name, string(verdict))
		}
		sums.add(at, c.desc.strangers, p.Strangers, a.Interface, p.Name)
		sums.add(at, c.desc.paced, p.Paced, a.Interface, p.Name)
	}
	for reason, n := range a.Unparsed {
		sums.add(at, c.desc.unparsed, n, a.Interface, reason)
	}
	for list, n := range a.Listed {
		sums.add(at, c.desc.listedPackets, n.Packets, a.Interface, list)
		sums.add(at, c.desc.listedBytes, n.Bytes, a.Interface, list)
	}
	sums.add(at, c.desc.contended, a.Contended, a.Interface)
	sums.add(at, c.desc.pressure, a.Pressure)
	sums.add(at, c.desc.lost, a.EventsLost)
}

func (c *Collector) collectBans(out sink) {
	b, err := c.bans.get()
	if err != nil {
		out.fail(c.desc.bans, "count the bans", err)
		return
	}
	out.gauge(c.desc.bans, b.IPv4, "ipv4")
	out.gauge(c.desc.bans, b.IPv6, "ipv6")
}

func (c *Collector) collectTable(out sink) {
	t, err := c.table.get()
	if err != nil {
		out.fail(c.desc.entries, "read the bucket table", err)
		return
	}
	out.gauge(c.desc.entries, t.Claimed)
	out.gauge(c.desc.owing, t.Owing)
	out.gauge(c.desc.capacity, t.Capacity)
	out.gauge(c.desc.leasing, t.Leasing)
	out.gauge(c.desc.denying, t.Denying)
}

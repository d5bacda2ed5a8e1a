package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Build identifies the program that is running.
type Build struct {
	Version  string // of the module, such as v1.2.3
	Revision string // of the source, as the version control system names it
	Go       string // version of the compiler
}

// Options says what a [Collector] needs. All fields are required.
type Options struct {
	Source Source
	// Instance is this daemon's name, for the metrics of the contract that have such a label.
	Instance string
	Build    Build
	// Now is the clock that the age of the table's count is measured by.
	Now func() time.Time
}

// Collector is a [prometheus.Collector] over a [Source].
//
// It reads the counters at every scrape. The table's occupancy takes a walk over all of the table,
// 16 MiB by default, so that is done once per second at most, however often and by however many the
// daemon is scraped. If the source fails, what it would have given is missing from the scrape and
// the error is reported in its place; what other collectors give is not affected.
type Collector struct {
	source   Source
	table    *cached[Table]
	pressure monotonic
	build    prometheus.Metric
	desc     descriptions
	instance string
}

var _ prometheus.Collector = (*Collector)(nil)

// tableAge is how old a count of the table's entries may be.
const tableAge = time.Second

// New makes a collector. It fails if a label's value is not valid UTF-8.
func New(o Options) (*Collector, error) {
	d := describe()
	build, err := prometheus.NewConstMetric(d.build, prometheus.GaugeValue, 1, o.Build.Version, o.Build.Revision, o.Build.Go)
	if err != nil {
		return nil, err
	}
	return &Collector{
		source:   o.Source,
		table:    &cached[Table]{read: o.Source.Table, now: o.Now, maxAge: tableAge},
		build:    build,
		desc:     d,
		instance: o.Instance,
	}, nil
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
	c.collectKernel(out)
	c.collectTable(out)
}

func (c *Collector) collectKernel(out sink) {
	k, err := c.source.Kernel()
	if err != nil {
		out.fail(c.desc.packets, "read the kernel's counters", err)
		return
	}
	for _, i := range k.Interfaces {
		c.collectInterface(out, i)
	}
	out.counter(c.desc.pressure, c.pressure.add(k.Interfaces))
	out.gauge(c.desc.policies, k.Policies, c.instance)
}

func (c *Collector) collectInterface(out sink, i Interface) {
	for _, p := range i.Policies {
		for verdict, n := range p.Verdicts {
			out.counter(c.desc.packets, n.Packets, i.Name, p.Name, string(verdict))
			out.counter(c.desc.bytes, n.Bytes, i.Name, p.Name, string(verdict))
		}
	}
	for reason, n := range i.Unparsed {
		out.counter(c.desc.unparsed, n, i.Name, reason)
	}
	out.counter(c.desc.contended, i.Contended, i.Name)
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
}

package metrics

import "github.com/prometheus/client_golang/prometheus"

// Reloads says what became of the reloads of the configuration file. That of the start is none.
type Reloads struct {
	Done, Failed uint64
	// LastFailed says that the last one changed nothing: the file is not what is in force.
	LastFailed bool
}

// reloadCollector is a [prometheus.Collector] of Reloads.
type reloadCollector struct {
	read        func() Reloads
	total, last *prometheus.Desc
}

// NewReloadCollector makes a collector that asks read at every scrape, from several goroutines at once.
func NewReloadCollector(read func() Reloads) prometheus.Collector {
	return &reloadCollector{
		read: read,
		total: prometheus.NewDesc("rate_limiter_config_reloads_total",
			"Reloads of the configuration file, by result: success or failure. After a failure what was in force still is.",
			[]string{"result"}, nil),
		last: prometheus.NewDesc("rate_limiter_config_last_reload_successful",
			"Whether the last reload of the configuration file succeeded: 1 or 0.", nil, nil),
	}
}

func (c *reloadCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.total
	ch <- c.last
}

func (c *reloadCollector) Collect(ch chan<- prometheus.Metric) {
	r, out := c.read(), sink{ch}
	out.counter(c.total, r.Done, "success")
	out.counter(c.total, r.Failed, "failure")
	successful := 1
	if r.LastFailed {
		successful = 0
	}
	out.gauge(c.last, successful)
}

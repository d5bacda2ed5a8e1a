package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// sink sends metrics to a scrape. What cannot be a metric, such as an interface whose name is not
// UTF-8, becomes an error of that scrape.
type sink struct{ ch chan<- prometheus.Metric }

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s.send(d, prometheus.CounterValue, float64(v), labels)
}

func (s sink) gauge(d *prometheus.Desc, v int, labels ...string) {
	s.send(d, prometheus.GaugeValue, float64(v), labels)
}

func (s sink) histogram(d *prometheus.Desc, all Durations, labels ...string) {
	var count uint64
	buckets := make(map[float64]uint64, len(all.Bounds))
	for i, n := range all.Counts {
		count += n
		if i < len(all.Bounds) {
			buckets[all.Bounds[i].Seconds()] = count
		}
	}
	m, err := prometheus.NewConstHistogram(d, count, all.Sum.Seconds(), buckets, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}

func (s sink) send(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) {
	m, err := prometheus.NewConstMetric(d, kind, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}

// fail makes the scrape report that what was being done failed.
func (s sink) fail(d *prometheus.Desc, doing string, err error) {
	s.ch <- prometheus.NewInvalidMetric(d, fmt.Errorf("%s: %w", doing, err))
}

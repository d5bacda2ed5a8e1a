// Package metrics publishes for Prometheus what the kernel counts, and what the limiter of layer 7 does.
//
// A [Collector] keeps no count of its own: it reads a [Source] whenever it is scraped, so that its
// numbers are the kernel's, over restarts of the daemon too. A [LimiterCollector] reads the limiter, whose
// counters begin with the daemon. No label ever holds an address, a user or a key.
package metrics

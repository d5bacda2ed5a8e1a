// Package metrics publishes for Prometheus what the kernel counts.
//
// A [Collector] keeps no count of its own: it reads a [Source] whenever it is scraped, so that its
// numbers are the kernel's, over restarts of the daemon too. No label ever holds an address.
package metrics

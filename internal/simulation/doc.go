// Package simulation runs a cluster of nodes in one goroutine, by a clock of its own, against ratesync.Model, the store's
// scripts in Go.
//
// The nodes' code is the daemon's: package ratesync over bucket.Table. What is simulated is what surrounds it: arrivals,
// a network that delays, loses and separates, a store that dies, comes back and loses its data, clocks that are wrong,
// daemons that stop, crash and start. Everything follows from a seed, so that a run which broke a bound is run again
// by its number.
//
// Time passes in steps of a millisecond. In each one the messages that are due are delivered, nodes whose interval has
// passed begin a round, and every arrival is decided by the node it came to.
package simulation

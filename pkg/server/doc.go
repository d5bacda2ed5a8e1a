// Package server is the daemon's HTTP side: metrics for Prometheus, and health for whatever supervises
// the daemon.
//
// The listener is made before the server, by [Listen], so that a daemon can bind it early, while it
// still may, and give up its privileges before the first request is read.
package server

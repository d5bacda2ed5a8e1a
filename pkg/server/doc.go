// Package server is the daemon's HTTP side: metrics for Prometheus, health for whatever supervises the
// daemon, and the admin API, by which policies and bans are changed.
//
// The admin API is served on a unix socket, whose mode says who may, and over TCP to who shows a token;
// policies alone can be read by everybody. docs/ADMIN.md has every call. Errors of it are RFC 9457
// problems: see [Problem].
//
// The listeners are made before the server, by [Listen] and [ListenSocket], so that a daemon can bind
// them early, while it still may, and give up its privileges before the first request is read.
package server

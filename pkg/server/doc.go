// Package server is the daemon's HTTP side: the calls by which applications and proxies ask whether a request may
// pass, metrics for Prometheus, health for whatever supervises the daemon, and the admin API, by which
// policies and bans are changed.
//
// What requests face, /v1/check and /v1/auth among it, is for everybody who can reach the server;
// docs/API.md has every call. The admin API is served on a unix socket, whose mode says who may, and over TCP to who
// shows a token; policies alone can be read by everybody. docs/ADMIN.md has every call of it. Errors are
// RFC 9457 problems: see [Problem].
//
// The listeners are made before the server, by [Listen] and [ListenSocket], so that a daemon can bind
// them early, while it still may, and give up its privileges before the first request is read.
package server

// Package proxy is a reverse proxy in front of one upstream, which a middleware protects: what that denies
// never gets to the upstream.
//
// It streams both ways, passes on upgrades such as WebSocket, trailers and gRPC, and speaks HTTP/1.1 and,
// without TLS, HTTP/2 to who begins with it (h2c); to the upstream HTTP/1.1, over TLS also HTTP/2, and h2c if its URL
// says so. WebSocket over HTTP/2 (RFC 8441) and TLS towards clients it does not have.
package proxy

// Package identity says who sent a request: it makes the [policy.RequestContext] that layer 7 limits by.
//
// # Who is believed
//
// A request has three kinds of statements in it, and each is believed from somebody else.
//
//   - What the connection says, the peer's address, always holds.
//   - What a header says of somebody else (X-Forwarded-For, X-User) holds from trusted peers. From anybody
//     else it is ignored, silently: a client that sends such a header is limited as any other.
//   - What proves itself, a signed token or an API key that only its owner knows, holds from everybody.
//
// So nobody but a trusted proxy can choose whose bucket pays, and no header that a client makes up
// has the request of another client refused. docs/IDENTITY.md says what this asks of the proxy.
package identity

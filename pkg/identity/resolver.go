package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Options says what a [Resolver] believes, and from whom. The zero value believes the connection, and nothing
// else. [DefaultOptions] has the usual headers.
type Options struct {
	// TrustedProxies are the only peers that may speak for others. A peer on a unix socket is trusted: the
	// socket's mode says who gets there.
	TrustedProxies []netip.Prefix
	// ClientHeader is the header in which trusted proxies list the addresses that they had a request from:
	// Forwarded is read as RFC 7239 says, any other as X-Forwarded-For is. Empty: X-Forwarded-For, where a request has none
	// Forwarded, and where it has neither X-Real-IP. Whatever it is, the proxy must write it: it is the client's otherwise.
	ClientHeader string
	// UserHeader and RoleHeader name who was authenticated. They count from trusted peers. Empty: ignored.
	UserHeader, RoleHeader string
	// APIKeyHeader has the client's own key, and counts from everybody. Empty: ignored.
	APIKeyHeader string
	// RequestIDHeader has what logs call the request. One that can't be logged is ignored. Empty: ignored.
	RequestIDHeader string
	// MetadataHeaders are the headers that metadata is taken from, by its name. They count from trusted peers.
	// Host is the host that the request is for.
	MetadataHeaders map[string]string
	// JWT verifies tokens; nil: there are none. It is the caller's to run.
	JWT *Verifier
}

// DefaultOptions are the header names that weir has where nothing else is configured.
func DefaultOptions() Options {
	return Options{UserHeader: "X-User", RoleHeader: "X-Role", APIKeyHeader: "X-API-Key", RequestIDHeader: "X-Request-Id"}
}

// FieldError is why a request has no context: something that it says of itself can't be used. It is the
// client's fault, or that of its trusted proxy, and nobody else's request fails of it.
type FieldError struct {
	Field   string // the header, or "path", "method"
	Problem string
	Mend    string
}

// Error returns field, problem and mend in one line. It has nothing of the value in it.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem + "; " + e.Mend }

// Resolver tells who sent a request. Its methods may be called by many goroutines at once.
type Resolver struct {
	options Options
}

// New makes a resolver. It fails if a prefix or a header name can't be one.
func New(o Options) (*Resolver, error) {
	return nil, fmt.Errorf("identity: not built yet")
}

// Request is the context of a request that is itself to be limited: in a middleware or a proxy. An error is a
// [*FieldError].
func (r *Resolver) Request(req *http.Request) (policy.RequestContext, error) {
	return policy.RequestContext{}, nil
}

// ForwardAuth is the context of the request that a proxy asks about. A trusted peer names its method and
// path in X-Forwarded-Method and X-Forwarded-Uri (Traefik, Caddy), or X-Original-Method and X-Original-URI or X-Original-URL
// (nginx). What it does not name, and everything that others name, is taken from the question itself. An error
// is a [*FieldError].
func (r *Resolver) ForwardAuth(req *http.Request) (policy.RequestContext, error) {
	return policy.RequestContext{}, nil
}

// GRPC is the context of a call, from the peer and the metadata of a server's context. Metadata count as headers do.
// An error is a [*FieldError].
func (r *Resolver) GRPC(ctx context.Context, fullMethod string) (policy.RequestContext, error) {
	return policy.RequestContext{}, nil
}

// Rejected counts, by [Reasons], the tokens that did not verify. Their requests have no user by them.
func (r *Resolver) Rejected() map[string]uint64 { return nil }

// HashAPIKey is what stands for an API key wherever it is used, shown or stored: 32 hexadecimal digits.
func HashAPIKey(raw string) string {
	var b strings.Builder
	b.WriteString("weir api key\x00")
	b.WriteString(raw)
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:16])
}

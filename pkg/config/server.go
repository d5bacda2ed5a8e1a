package config

import (
	"net/netip"
	"time"
)

// DefaultHTTP is the default of Server.HTTP.
const DefaultHTTP = "127.0.0.1:8080"

// Server says where the daemon listens, and what it makes of requests. An empty
// address switches a listener off; no two listeners have the same one.
type Server struct {
	// HTTP is the host:port of the check API, health and metrics; default
	// [DefaultHTTP].
	HTTP string
	// GRPC is the host:port of the Envoy rate limit service.
	GRPC string
	// Proxy is the reverse proxy.
	Proxy Proxy
	// TrustedProxies are the peers that may say who the client is, at most
	// [MaxTrustedProxies]. Peers of a unix socket always may.
	TrustedProxies []netip.Prefix
	// AdminTokenFile holds the bearer token of changes over TCP.
	AdminTokenFile string
	// RLSConfig are files or directories in the format of envoyproxy/ratelimit, at
	// most [MaxRLSConfig]. Only with GRPC.
	RLSConfig []string
	// Headers is how answers tell a client of its limit; default
	// [HeadersXRateLimit].
	Headers HeaderDialect
	// Identity says which headers have what is known of a request.
	Identity Identity
	// JWT verifies tokens; nil: there are none.
	JWT *JWT
}

// The bounds of the server's lists.
const (
	MaxTrustedProxies  = 1024
	MaxRLSConfig       = 64
	MaxMetadataHeaders = 64
	MaxJWTLeeway       = 5 * time.Minute
)

// Proxy is the reverse proxy: where it listens and whom it asks. Both are set,
// or neither.
type Proxy struct {
	// Listen is a host:port.
	Listen string
	// Upstream is an http or https URL without user, query and fragment. Its path is
	// put before that of every request.
	Upstream string
}

// HeaderDialect is a way of telling clients of their limits.
type HeaderDialect string

// The dialects.
const (
	HeadersXRateLimit HeaderDialect = "x-ratelimit" // X-RateLimit-Limit and so on
	HeadersIETF       HeaderDialect = "ietf"        // RateLimit and RateLimit-Policy
	HeadersBoth       HeaderDialect = "both"
	HeadersOff        HeaderDialect = "off" // none but Retry-After
)

// HeaderDialects returns every dialect.
func HeaderDialects() []HeaderDialect {
	return []HeaderDialect{HeadersXRateLimit, HeadersIETF, HeadersBoth, HeadersOff}
}

// Identity names the headers that requests are understood by. An empty name
// means that no header is asked; no two fields have the same one.
type Identity struct {
	// ClientHeader is where trusted proxies write the client's address; empty:
	// X-Forwarded-For, Forwarded and X-Real-IP.
	ClientHeader string
	// UserHeader and RoleHeader count from trusted proxies; defaults X-User and
	// X-Role.
	UserHeader, RoleHeader string
	// APIKeyHeader has the client's own key; default X-API-Key.
	APIKeyHeader string
	// RequestIDHeader is for logs; default X-Request-ID.
	RequestIDHeader string
	// MetadataHeaders are headers by the name of the metadata that they become, at
	// most [MaxMetadataHeaders]; from trusted proxies.
	MetadataHeaders map[string]string
}

// JWT says which tokens are believed, and what is read from them.
type JWT struct {
	// One of these says where the keys are. JWKSURL is https, or http on this
	// host; KeyFile has a public key as PEM, and SecretFile what HS256 and its like
	// are signed with.
	JWKSURL, JWKSFile, KeyFile, SecretFile string
	// Algorithms are names of [JWTAlgorithms] that suit the keys; none: every one
	// that suits them.
	Algorithms []string
	// Issuer and Audience are what a token has to name; empty: anything.
	Issuer, Audience string
	// UserClaim and RoleClaim are where user and role stand, default sub and role.
	// An empty RoleClaim means that tokens have no role.
	UserClaim, RoleClaim string
	// Header has the token; default Authorization.
	Header string
	// Leeway is by how much clocks may differ, 0 to [MaxJWTLeeway]; default 30s.
	Leeway time.Duration
}

// JWTAlgorithms returns every algorithm that a token can be signed with. There
// is none without a signature.
func JWTAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"}
}

func defaultServer() Server {
	return Server{
		HTTP:    DefaultHTTP,
		Headers: HeadersXRateLimit,
		Identity: Identity{
			UserHeader: "X-User", RoleHeader: "X-Role", APIKeyHeader: "X-API-Key", RequestIDHeader: "X-Request-ID",
		},
	}
}

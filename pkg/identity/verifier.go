package identity

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// VerifierOptions says which tokens a [Verifier] believes. One of JWKSURL, JWKSFile, KeyFile and SecretFile is
// set.
type VerifierOptions struct {
	// JWKSURL is where the issuer publishes its keys: https, or http on this machine.
	JWKSURL string
	// JWKSFile is a JWK set in a file.
	JWKSFile string
	// KeyFile is one public key or certificate as PEM.
	KeyFile string
	// SecretFile is what HS256, HS384 and HS512 are signed with: at least 32 bytes, in a file of mode 0600 or 0640.
	SecretFile string
	// Algorithms are those that a token may be signed with; none: every one that the key can be used for.
	Algorithms []string
	// Issuer and Audience are what iss must be and aud must hold; empty: not asked for.
	Issuer, Audience string
	// UserClaim and RoleClaim are where a token has user and role; a dot leads into an object, as in
	// realm_access.roles. Of a list the first counts. Empty UserClaim: sub. Empty RoleClaim: a token has no role.
	UserClaim, RoleClaim string
	// Header has the token, with or without "Bearer". Empty: Authorization, with it.
	Header string
	// Leeway is how far the issuer's clock may be off.
	Leeway time.Duration
	// Refresh is how often keys are read anew; 0: files every 5 s, a URL every 10 minutes.
	Refresh time.Duration
	// MinRefresh is the time between two fetches of a URL that failed, or that a key id that is not known
	// asks for; 0: 10 s.
	MinRefresh time.Duration
	// Log has what becomes of the keys; nil: nobody reads it. No token and no claim is logged.
	Log *slog.Logger
	// HTTPClient fetches JWKSURL; nil: one with a timeout.
	HTTPClient *http.Client
	// Now tells the time; nil: time.Now.
	Now func() time.Time
}

// Verifier tells whether tokens are what they say.
type Verifier struct {
	options VerifierOptions
}

// NewVerifier reads the keys, if they are in files. Those of a URL come with [Verifier.Run], and until then
// no token is believed.
func NewVerifier(o VerifierOptions) (*Verifier, error) { return nil, nil }

// Run keeps the keys up to date until ctx ends. A set that can't be had leaves the last good one in force. It returns nil.
func (v *Verifier) Run(ctx context.Context) error { return nil }

// Keys is how many keys are in force, and why they could not be read the last time; nil if they could.
func (v *Verifier) Keys() (int, error) { return 0, nil }

// Reasons are why a token may be rejected: every key that [Resolver.Rejected] can have.
func Reasons() []string { return nil }

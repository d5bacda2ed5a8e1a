package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// VerifierOptions says which tokens a [Verifier] believes. One of JWKSURL, JWKSFile, KeyFile and SecretFile
// is set.
type VerifierOptions struct {
	// JWKSURL is where the issuer publishes its keys: https, or http on this machine.
	JWKSURL string
	// JWKSFile is a JWK set in a file.
	JWKSFile string
	// KeyFile is one public key or certificate as PEM.
	KeyFile string
	// SecretFile is what HS256, HS384 and HS512 are signed with: 32 bytes or more without the white space
	// around them, in a file of mode 0600 or 0640.
	SecretFile string
	// Algorithms are those that a token may be signed with; none: every one that the key can be used for.
	Algorithms []string
	// Issuer and Audience are what iss must be and aud must hold; empty: not asked for.
	Issuer, Audience string
	// UserClaim and RoleClaim are where a token has user and role; a dot leads into an object, as in
	// realm_access.roles. Of a list the first counts. Empty UserClaim: sub. Empty RoleClaim: tokens have
	// no role.
	UserClaim, RoleClaim string
	// Header has the token, with or without "Bearer". Empty: Authorization, with it.
	Header string
	// Leeway is how far the issuer's clock may be off.
	Leeway time.Duration
	// Refresh is how often keys are read anew; 0: files every 5 s, a URL every 10 minutes.
	Refresh time.Duration
	// MinRefresh is the time between two fetches of a URL when one failed, or when a token names a key
	// that is not known; 0: 10 s.
	MinRefresh time.Duration
	// Log has what becomes of the keys; nil: nobody reads it. No token and no claim is logged.
	Log *slog.Logger
	// HTTPClient fetches JWKSURL; nil: one of weir's own. It gets at most 10 s, and 1 MiB.
	HTTPClient *http.Client
	// Now tells the time; nil: time.Now.
	Now func() time.Time
}

// Why a token may be rejected.
type reason int

const (
	rejectedMalformed reason = iota
	rejectedTooLong
	rejectedAlgorithm
	rejectedNoKeys
	rejectedUnknownKey
	rejectedSignature
	rejectedExpired
	rejectedNotYetValid
	rejectedIssuer
	rejectedAudience
	rejectedClaims
	reasons         // how many there are
	accepted reason = -1
)

var reasonNames = [reasons]string{
	"malformed", "too_long", "algorithm", "no_keys", "unknown_key", "signature",
	"expired", "not_yet_valid", "issuer", "audience", "claims",
}

// Reasons are why a token may be rejected: every key that [Resolver.Rejected] has.
func Reasons() []string { return append([]string(nil), reasonNames[:]...) }

const (
	// maxToken is the longest token that is looked at.
	maxToken = 8 << 10
	// maxTries is how many keys are tried on a token that does not name its own: each is work that
	// anybody can ask for.
	maxTries = 4
	// maxLeeway keeps a slip of the unit from making tokens eternal.
	maxLeeway = time.Hour
)

// Verifier tells whether tokens are what they say.
type Verifier struct {
	options VerifierOptions
	header  header
	bare    bool // the token may be there without "Bearer"
	source  source
	allowed map[jose.SignatureAlgorithm]bool // nil: all

	keys    atomic.Pointer[keySet] // nil: none could be had yet
	wanted  chan struct{}          // a token named a key that is not there
	mu      sync.Mutex
	failure error // of the last reading
}

// NewVerifier reads the keys, if they are in a file, and fails if they can't be used. Those of a URL come with
// [Verifier.Run], and until then no token is believed.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	v := &Verifier{options: o, wanted: make(chan struct{}, 1)}
	if err := v.configure(); err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	if v.source.local {
		if err := v.refresh(context.Background()); err != nil {
			return nil, fmt.Errorf("jwt: %w", err)
		}
	}
	return v, nil
}

// Inherit takes over the keys of another verifier of the same URL, as far as this one may use them, until it has
// fetched its own. It is called before both Run and the first token.
func (v *Verifier) Inherit(from *Verifier) {
	set := from.keys.Load()
	if set == nil || v.options.JWKSURL == "" || v.options.JWKSURL != from.options.JWKSURL {
		return
	}
	// Without a digest, so that what is fetched takes their place: there may be keys that the other left out.
	if own, err := newKeySet(set.keys, v.allowed, [sha256.Size]byte{}); err == nil {
		v.keys.Store(own)
	}
}

func (v *Verifier) configure() (err error) {
	o := &v.options
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.UserClaim == "" {
		o.UserClaim = "sub"
	}
	if o.Leeway < 0 || o.Leeway > maxLeeway {
		return fmt.Errorf("a leeway of %s (want 0 to %s)", o.Leeway, maxLeeway)
	}
	v.bare = o.Header != "" && !strings.EqualFold(o.Header, "Authorization")
	if o.Header == "" {
		o.Header = "Authorization"
	}
	if v.header, err = newHeader(o.Header); err != nil {
		return err
	}
	if v.allowed, err = allowedAlgorithms(o.Algorithms); err != nil {
		return err
	}
	if v.source, err = newSource(*o); err != nil {
		return err
	}
	if o.Refresh <= 0 {
		o.Refresh = v.source.refresh
	}
	if o.MinRefresh <= 0 {
		o.MinRefresh = 10 * time.Second
	}
	return nil
}

// Keys is how many keys are in force, and why they could not be had the last time; nil if they could.
func (v *Verifier) Keys() (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if set := v.keys.Load(); set != nil {
		return len(set.keys), v.failure
	}
	return 0, v.failure
}

// token is the token in the header's value, and whether there is one.
func (v *Verifier) token(value string) (string, bool) {
	scheme, rest, ok := strings.Cut(value, " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), true
	}
	return value, v.bare && value != ""
}

// verify tells who a token is of, or why it is rejected.
func (v *Verifier) verify(token string) (claims, reason) {
	if len(token) > maxToken {
		return claims{}, rejectedTooLong
	}
	set := v.keys.Load()
	if set == nil {
		v.want()
		return claims{}, rejectedNoKeys
	}
	now := v.options.Now()
	var room [2 << 10]byte // tokens that fit are not copied to the heap
	id := sha256.Sum256(append(room[:0], token...))
	if known, ok := set.known.get(id); ok {
		if known.over(now) {
			return claims{}, rejectedExpired
		}
		return known, accepted
	}
	payload, why := v.payload(set, token)
	if why != accepted {
		return claims{}, why
	}
	c, why := v.claims(payload, now)
	if why == accepted {
		set.known.put(id, c)
	}
	return c, why
}

// payload is what a token says, if one of the keys signed it.
func (v *Verifier) payload(set *keySet, token string) ([]byte, reason) {
	jws, err := jose.ParseSignedCompact(token, set.algorithms)
	if unexpected := (*jose.ErrUnexpectedSignatureAlgorithm)(nil); errors.As(err, &unexpected) {
		return nil, rejectedAlgorithm
	}
	if err != nil || len(jws.Signatures) != 1 {
		return nil, rejectedMalformed
	}
	signed := jws.Signatures[0].Protected
	why := rejectedUnknownKey
	for tries, i := 0, 0; i < len(set.keys) && tries < maxTries; i++ {
		key := &set.keys[i]
		if !key.signs(jose.SignatureAlgorithm(signed.Algorithm), signed.KeyID) {
			continue
		}
		tries, why = tries+1, rejectedSignature
		if payload, err := jws.Verify(key.public); err == nil {
			return payload, accepted
		}
	}
	if why == rejectedUnknownKey {
		v.want() // the issuer may have a new one
	}
	return nil, why
}

// want has the keys fetched soon. It never waits.
func (v *Verifier) want() {
	select {
	case v.wanted <- struct{}{}:
	default:
	}
}

package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Options says what a [Resolver] believes, and from whom. The zero value believes the connection, and nothing
// else. [DefaultOptions] has the usual headers.
type Options struct {
	// TrustedProxies are the only peers that may speak for others. A peer on a unix socket is trusted: the
	// socket's mode says who gets there.
	TrustedProxies []netip.Prefix
	// ClientHeader is the header in which trusted proxies list the addresses that they had a request
	// from: Forwarded is read as RFC 7239 says, any other as X-Forwarded-For is. Empty: X-Forwarded-For,
	// where a request has none Forwarded, and where it has neither X-Real-IP. Whatever it is, the proxy
	// must write it, or else the client does.
	ClientHeader string
	// UserHeader and RoleHeader name who was authenticated. They count from trusted peers. Empty: ignored.
	UserHeader, RoleHeader string
	// APIKeyHeader has the client's own key, and counts from everybody. Empty: ignored.
	APIKeyHeader string
	// RequestIDHeader has what logs call the request. One that can't be logged is ignored. Empty: ignored.
	RequestIDHeader string
	// MetadataHeaders are the headers that metadata is taken from, by its name. They count from trusted
	// peers. Host stands for the host that the request is for.
	MetadataHeaders map[string]string
	// JWT verifies tokens; nil: there are none. It is the caller's to run.
	JWT *Verifier
}

// DefaultOptions are the header names that weir has where nothing else is configured.
func DefaultOptions() Options {
	return Options{UserHeader: "X-User", RoleHeader: "X-Role", APIKeyHeader: "X-API-Key", RequestIDHeader: "X-Request-Id"}
}

// maxMetadata is how many headers metadata may be taken from: each is looked for in every request.
const maxMetadata = 64

// Resolver tells who sent a request. Its methods may be called by many goroutines at once.
type Resolver struct {
	trusted                       policy.PrefixSet
	client                        header // none: the usual three
	user, role, apiKey, requestID header
	metadata                      []metadataHeader
	jwt                           *Verifier
	rejected                      [reasons]atomic.Uint64
}

type metadataHeader struct {
	name string
	header
}

// New makes a resolver. It fails if a prefix or a header's name can't be one.
func New(o Options) (*Resolver, error) {
	r := &Resolver{jwt: o.JWT}
	trusted := make([]netip.Prefix, 0, len(o.TrustedProxies))
	for i, p := range o.TrustedProxies {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("identity: trusted proxy %d: %s is no prefix of IPv4 or IPv6 (write one such as 192.0.2.0/24)", i, p)
		}
		trusted = append(trusted, p.Masked())
	}
	r.trusted = policy.NewPrefixSet(trusted)
	for _, h := range []struct {
		what string
		name string
		into *header
	}{
		{"client header", o.ClientHeader, &r.client},
		{"user header", o.UserHeader, &r.user},
		{"role header", o.RoleHeader, &r.role},
		{"API key header", o.APIKeyHeader, &r.apiKey},
		{"request ID header", o.RequestIDHeader, &r.requestID},
	} {
		var err error
		if *h.into, err = newHeader(h.name); err != nil {
			return nil, fmt.Errorf("identity: %s: %w", h.what, err)
		}
	}
	if err := r.addMetadata(o.MetadataHeaders); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Resolver) addMetadata(headers map[string]string) error {
	if len(headers) > maxMetadata {
		return fmt.Errorf("identity: metadata of %d headers (at most %d)", len(headers), maxMetadata)
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		h, err := newHeader(headers[name])
		if err == nil && h.canonical == "" {
			err = errNoHeader
		}
		if err == nil && name == "" {
			err = errNoName
		}
		if err != nil {
			return fmt.Errorf("identity: metadata %q: %w", name, err)
		}
		r.metadata = append(r.metadata, metadataHeader{name, h})
	}
	return nil
}

// Rejected counts, by [Reasons], the tokens that did not verify. Their requests have no user by them.
func (r *Resolver) Rejected() map[string]uint64 {
	counts := make(map[string]uint64, reasons)
	for i := range r.rejected {
		counts[reasonNames[i]] = r.rejected[i].Load()
	}
	return counts
}

// digestPrefix keeps the digests of API keys apart from those that anybody else makes of the same keys.
const digestPrefix = "weir api key\x00"

// HashAPIKey is what stands for an API key wherever it is used, shown or stored: 32 hexadecimal digits.
func HashAPIKey(raw string) string {
	var room [len(digestPrefix) + policy.MaxText]byte // keys that fit are not copied to the heap
	sum := sha256.Sum256(append(append(room[:0], digestPrefix...), raw...))
	return hex.EncodeToString(sum[:16])
}

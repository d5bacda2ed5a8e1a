package middleware

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// Dialect says which rate limit headers an answer has. The zero value is [XRateLimit].
type Dialect string

// The dialects.
const (
	XRateLimit Dialect = "x-ratelimit" // X-RateLimit-Limit, -Remaining, -Reset, -Policy
	IETF       Dialect = "ietf"        // RateLimit-Policy and RateLimit: draft-ietf-httpapi-ratelimit-headers-10
	Both       Dialect = "both"
	Off        Dialect = "off" // none; headers of policies and Retry-After are no dialect
)

// Dialects returns every dialect.
func Dialects() []Dialect { return []Dialect{XRateLimit, IETF, Both, Off} }

// ParseDialect returns the dialect of a name; that of no name is [XRateLimit].
func ParseDialect(name string) (Dialect, error) {
	if name == "" {
		return XRateLimit, nil
	}
	var known []string
	for _, d := range Dialects() {
		if string(d) == name {
			return d, nil
		}
		known = append(known, string(d))
	}
	return "", fmt.Errorf("unknown dialect of rate limit headers %q (use one of %s)", name, strings.Join(known, ", "))
}

func (d Dialect) x() bool    { return d == XRateLimit || d == Both || d == "" }
func (d Dialect) ietf() bool { return d == IETF || d == Both }

// The headers, as http.Header spells their names.
const (
	headerLimit      = "X-Ratelimit-Limit"
	headerRemaining  = "X-Ratelimit-Remaining"
	headerReset      = "X-Ratelimit-Reset"
	headerPolicy     = "X-Ratelimit-Policy"
	headerShadow     = "X-Ratelimit-Shadow"
	headerIETFPolicy = "Ratelimit-Policy"
	headerIETF       = "Ratelimit"
	headerRetryAfter = "Retry-After"
)

// Set says in the headers of an answer what res says: the figures of the policy that decided, if one did; the
// policy in mode shadow that would have denied; and last the headers that the policy itself asks for, which may
// replace any of those. A header of the same name that was there is replaced.
func (d Dialect) Set(h http.Header, res *limiter.Result, now time.Time) {
	var f fields
	var room [256]byte // on the stack, and enough for the names that policies have
	text := f.collect(room[:0], d, res, now)
	f.write(h, text, res.Headers)
}

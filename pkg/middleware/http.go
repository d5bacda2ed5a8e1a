package middleware

import (
	"context"
	"net/http"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// Checker decides over requests: a [*limiter.Limiter] does.
type Checker interface {
	Check(ctx context.Context, q limiter.Query) (limiter.Result, error)
	Release(r *limiter.Result)
}

var _ Checker = (*limiter.Limiter)(nil)

// DefaultMaxDelay is the longest that a request waits where the options say nothing.
const DefaultMaxDelay = 10 * time.Second

// HTTPOptions says how [HTTP] limits. The zero value is usable.
type HTTPOptions struct {
	// Extract says who asks for what. Its error is answered with 400 and its text: name no secret in it. Nil: address of the peer, method
	// and path; behind a proxy that is the proxy's address, so it is no default for there.
	Extract func(*http.Request) (key string, rc limiter.RequestContext, err error)
	// Hits is what a request costs; nil: 1. A request of 0 hits is told how things are, and charged nothing.
	Hits func(*http.Request) uint64
	// Dialect says which headers are written.
	Dialect Dialect
	// OnDenied answers a denied request; nil: [WriteDenied]. The headers are set by then, Retry-After included.
	OnDenied func(w http.ResponseWriter, r *http.Request, res *limiter.Result)
	// OnError answers a request that is refused because it could not be decided; nil: a problem of status 400
	// for an [*ExtractError] and a [*limiter.QueryError], else of status 503.
	OnError func(w http.ResponseWriter, r *http.Request, err error)
	// FailClosed refuses a request when the limiter fails. If not set, it goes on, unlimited.
	FailClosed bool
	// OnFailure is told of each failure of the limiter, whatever becomes of the request; it must not block. Nil: nobody is.
	OnFailure func(r *http.Request, err error)
	// Skip tells of a request that nobody limits; nil: there is none.
	Skip func(*http.Request) bool
	// MaxDelay is the longest that a request waits for its turn in a leaky bucket; one that would wait longer is denied.
	// 0: [DefaultMaxDelay]. Negative: none waits.
	MaxDelay time.Duration
	// Now tells the time of the headers; nil: time.Now.
	Now func() time.Time
}

// ExtractError is that of [HTTPOptions.Extract].
type ExtractError struct{ Err error }

// Error is the text of what was extracted wrong.
func (e *ExtractError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the function.
func (e *ExtractError) Unwrap() error { return e.Err }

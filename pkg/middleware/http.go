package middleware

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// Checker decides over requests: a [limiter.Limiter] does. Its methods may be called by many goroutines
// at once.
type Checker interface {
	Check(ctx context.Context, q limiter.Query) (limiter.Result, error)
	Release(r *limiter.Result)
}

var _ Checker = (*limiter.Limiter)(nil)

// HTTPOptions says how [HTTP] limits. The zero value is usable.
type HTTPOptions struct {
	// Extract says who asks for what. The client gets to read its error: name no secret in it. Nil: the
	// address of the peer, method and path. Behind a proxy that address is the proxy's, so bring your own.
	Extract func(*http.Request) (key string, rc limiter.RequestContext, err error)
	// Hits is what a request costs; nil: 1. One of 0 hits is charged nothing, and denied as one of 1 would be.
	Hits func(*http.Request) uint64
	// Dialect says which headers are written.
	Dialect Dialect
	// OnDenied answers a request that was denied; nil: as [WriteDenied]. The headers are set by then, those
	// of the dialect and Retry-After.
	OnDenied func(w http.ResponseWriter, r *http.Request, res *limiter.Result)
	// OnError answers a request that is refused because nobody could decide over it. Nil: a problem of status
	// 400 for an [*ExtractError] or a [*limiter.QueryError], else of status 503.
	OnError func(w http.ResponseWriter, r *http.Request, err error)
	// FailClosed refuses a request if the limiter fails. Else it goes on, with no limit and no headers.
	FailClosed bool
	// OnFailure is told of every failure of the limiter, whatever becomes of the request. Nil: nobody is.
	OnFailure func(r *http.Request, err error)
	// Skip tells of a request that is not to be limited; nil: all are.
	Skip func(*http.Request) bool
	// MaxDelay is the longest that a request waits for its turn, where a policy has a leaky bucket; what
	// would wait longer is denied. 0: [DefaultMaxDelay]. Negative: nothing waits.
	MaxDelay time.Duration
	// Now is what headers are reckoned from; nil: [time.Now].
	Now func() time.Time
}

// ExtractError is an error of the function that says who asks for what.
type ExtractError struct{ Err error }

// Error is the text of the function's error.
func (e *ExtractError) Error() string { return e.Err.Error() }

// Unwrap returns the function's error.
func (e *ExtractError) Unwrap() error { return e.Err }

// HTTP makes a middleware that asks l about each request, before the handler that it is put in front of.
//
// What is allowed gets its headers before the handler runs, which may change them; the ResponseWriter is
// passed on as it is, so that flushing, hijacking and sendfile work as without. What is denied never gets to
// the handler. A request counts as in flight, for policies of algorithm concurrency, until the handler
// returns or panics: one that hijacks the connection has to stay until the connection is done.
func HTTP(l Checker, o HTTPOptions) func(http.Handler) http.Handler {
	o.setDefaults()
	return func(next http.Handler) http.Handler {
		return &limited{HTTPOptions: o, checker: l, next: next}
	}
}

func (o *HTTPOptions) setDefaults() {
	if o.Extract == nil {
		o.Extract = extract
	}
	if o.OnDenied == nil {
		o.OnDenied = func(w http.ResponseWriter, r *http.Request, res *limiter.Result) {
			writeDenied(w, r, statusOf(res), res)
		}
	}
	if o.OnError == nil {
		o.OnError = writeError
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// extract reads what every request has. A peer that has no IP address, as on a unix socket, is no client
// that a policy per address knows.
func extract(r *http.Request) (string, limiter.RequestContext, error) {
	rc := limiter.RequestContext{Method: r.Method, Endpoint: r.URL.EscapedPath()}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		rc.ClientIP = peer.Addr().Unmap().WithZone("")
	}
	return "", rc, nil
}

// writeError answers a request that nobody could decide over. What the limiter says of its own
// failure is none of the client's business.
func writeError(w http.ResponseWriter, _ *http.Request, err error) {
	var extracted *ExtractError
	if errors.As(err, &extracted) || errors.Is(err, limiter.ErrQuery) {
		WriteProblem(w, http.StatusBadRequest, err.Error())
		return
	}
	WriteProblem(w, http.StatusServiceUnavailable, "the rate limiter can't decide now; retry later")
}

type limited struct {
	HTTPOptions
	checker Checker
	next    http.Handler
}

// call is what one request needs of memory beyond its goroutine's stack: an interface is handed both.
type call struct {
	rc  limiter.RequestContext
	res limiter.Result
}

var calls = sync.Pool{New: func() any { return new(call) }}

// ServeHTTP implements [http.Handler].
func (l *limited) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.Skip != nil && l.Skip(r) {
		l.next.ServeHTTP(w, r)
		return
	}
	c := calls.Get().(*call)
	defer l.end(c) // also if the handler panics
	if l.admits(w, r, c) {
		l.next.ServeHTTP(w, r)
	}
}

func (l *limited) end(c *call) {
	l.checker.Release(&c.res)
	*c = call{} // it names a user, and may be the last that does
	calls.Put(c)
}

// admits decides over a request, waits for its turn and sets the headers; or answers it and returns false.
func (l *limited) admits(w http.ResponseWriter, r *http.Request, c *call) bool {
	err := l.check(r, c)
	if err == nil {
		err = Wait(r.Context(), &c.res)
	}
	switch {
	case err != nil:
		return l.undecided(w, r, err)
	case !c.res.Allowed:
		setDenied(w.Header(), l.Dialect, &c.res, l.Now())
		l.OnDenied(w, r, &c.res)
		return false
	}
	l.Dialect.Set(w.Header(), &c.res, l.Now())
	return true
}

func (l *limited) check(r *http.Request, c *call) (err error) {
	q := limiter.Query{Request: &c.rc, Hits: 1, MaxDelay: MaxDelay(r.Context(), l.MaxDelay)}
	if q.Key, c.rc, err = l.Extract(r); err != nil {
		return &ExtractError{err}
	}
	if l.Hits != nil {
		q.Hits = l.Hits(r)
	}
	c.res, err = l.checker.Check(r.Context(), q)
	return err
}

// undecided refuses a request that is at fault itself, or whose client is gone, and does as it is told
// when the limiter is at fault.
func (l *limited) undecided(w http.ResponseWriter, r *http.Request, err error) bool {
	var extracted *ExtractError
	if !errors.As(err, &extracted) && !errors.Is(err, limiter.ErrQuery) && r.Context().Err() == nil {
		if l.OnFailure != nil {
			l.OnFailure(r, err)
		}
		if !l.FailClosed {
			return true
		}
	}
	l.OnError(w, r, err)
	return false
}

package proxy

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

// What the upstream may take of the proxy's time, and of its connections.
const (
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	// idleConns is how many connections to the upstream are kept for the next request: more than are likely
	// to be busy at once, as each that is not kept costs a handshake.
	idleConns       = 1024
	idleConnTimeout = 90 * time.Second
	maxHeaderBytes  = 256 << 10 // of an answer
)

// Waits, where the options say nothing.
const (
	DefaultHeaderTimeout = time.Minute
	DefaultStallTimeout  = time.Minute
)

// DefaultMaxConns is how many connections to the upstream there may be, where the options say nothing.
const DefaultMaxConns = 1 << 14

// Options says what a proxy does.
type Options struct {
	// Upstream is where requests go: scheme http, https or h2c (HTTP/2 without TLS, for gRPC), a host, and maybe a path to put
	// before that of requests.
	Upstream *url.URL
	// Middleware stands before the upstream; nil: nothing does. The headers that it sets on an answer
	// replace those of the upstream.
	Middleware func(http.Handler) http.Handler
	// Trusted tells of a peer that is a proxy whose X-Forwarded-* and Forwarded are passed on; those of
	// all others are dropped. Nil: nobody is.
	Trusted func(netip.Addr) bool
	// HeaderTimeout is how long the upstream may take until it begins to answer; what it streams then may
	// take for ever. 0: DefaultHeaderTimeout. Negative: for ever.
	HeaderTimeout time.Duration
	// StallTimeout is how long a client may send nothing of a body that it has begun, with HTTP/1. 0:
	// DefaultStallTimeout.
	StallTimeout time.Duration
	// MaxConns is how many connections to the upstream there may be, those that are being made included; further
	// requests wait for one. 0: DefaultMaxConns. Each takes a file descriptor, and a client that resets its streams at once
	// would have them made by the thousand.
	MaxConns int
	// MaxBody is the largest body of a request, in bytes; 0: any. Bodies are never held in memory.
	MaxBody int64
	// Log is told of failures; nil: nobody is.
	Log *slog.Logger
}

// Proxy passes requests on to the upstream, as far as the middleware lets them.
type Proxy struct {
	handler   http.Handler
	transport *http.Transport
	stall     time.Duration
}

// ServeHTTP implements [http.Handler].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	boundBody(w, r, p.stall)
	if refuse(w, r) { // before anything is charged
		return
	}
	p.handler.ServeHTTP(w, r)
}

// CloseIdleConnections closes the connections to the upstream that wait for a next request.
func (p *Proxy) CloseIdleConnections() { p.transport.CloseIdleConnections() }

// New makes a proxy. It fails if the URL of the upstream is none that it knows how to ask.
func New(o Options) (*Proxy, error) {
	o.setDefaults()
	transport, target, err := upstream(o)
	if err != nil {
		return nil, err
	}
	reports := &reports{log: o.Log}
	var handler http.Handler = &forwarder{
		maxBody: o.MaxBody,
		stall:   o.StallTimeout,
		proxy: httputil.ReverseProxy{
			Rewrite:        rewriter(target, o.Trusted),
			Transport:      transport,
			BufferPool:     &buffers{},
			ModifyResponse: restoreOwn,
			ErrorHandler:   reports.answer,
			// What net/http/httputil logs is of clients that went away, and names them.
			ErrorLog: log.New(io.Discard, "", 0),
		},
	}
	if o.Middleware != nil {
		handler = o.Middleware(handler)
	}
	return &Proxy{handler, transport, o.StallTimeout}, nil
}

func (o *Options) setDefaults() {
	if o.HeaderTimeout == 0 {
		o.HeaderTimeout = DefaultHeaderTimeout
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = DefaultStallTimeout
	}
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// upstream makes what speaks to the upstream, and the URL by which it knows it.
func upstream(o Options) (*http.Transport, *url.URL, error) {
	if o.Upstream == nil || o.Upstream.Host == "" {
		return nil, nil, fmt.Errorf("server.proxy.upstream: has no host (write it as http://127.0.0.1:3000)")
	}
	if u := o.Upstream; u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, nil, fmt.Errorf("server.proxy.upstream: %s has more than scheme, host and path (remove user, query and fragment)", u.Redacted())
	}
	transport := &http.Transport{
		// No Proxy: the environment of a daemon says nothing of its upstream.
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  max(0, o.HeaderTimeout),
		ExpectContinueTimeout:  time.Second,
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    idleConns,
		MaxConnsPerHost:        o.MaxConns,
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // what the client can read is for it to say
		Protocols:              new(http.Protocols),
	}
	target := *o.Upstream
	switch target.Scheme {
	case "http":
		transport.Protocols.SetHTTP1(true)
	case "https":
		transport.Protocols.SetHTTP1(true)
		transport.Protocols.SetHTTP2(true)
	case "h2c":
		target.Scheme = "http"
		transport.Protocols.SetUnencryptedHTTP2(true)
	default:
		return nil, nil, fmt.Errorf("server.proxy.upstream: unknown scheme %q (use http, https or h2c)", target.Scheme)
	}
	return transport, &target, nil
}

// forwarder passes requests on.
type forwarder struct {
	proxy   httputil.ReverseProxy
	maxBody int64
	stall   time.Duration
}

// ServeHTTP implements [http.Handler].
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.maxBody > 0 {
		if r.ContentLength > f.maxBody {
			w.Header().Set("Connection", "close") // rather than read what is of no use
			writeTooLarge(w, f.maxBody)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, f.maxBody)
	}
	e := &exchange{own: takeOwn(w.Header())}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e))
	e.body = watchBody(w, r, f.stall)
	f.proxy.ServeHTTP(w, r)
}

// buffers is a pool of what bodies are copied through. It keeps pointers to arrays: to keep a slice
// would allocate its header each time.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get implements [httputil.BufferPool].
func (b *buffers) Get() []byte {
	if array, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return array[:]
	}
	return new([bufferSize]byte)[:]
}

// Put implements [httputil.BufferPool].
func (b *buffers) Put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }

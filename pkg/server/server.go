package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/weir-limiter/weir/internal/serve"
	"github.com/weir-limiter/weir/pkg/middleware"
)

// What a client may take of the server's time and memory. Requests are short, and most have no body;
// the answer to a scrape may be long.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = maxDelay + 20*time.Second // from its head on: the body, the time that it is held back, the answer
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
)

// Options says what a [Server] serves.
type Options struct {
	// Listener is where requests come from. The server closes it.
	Listener net.Listener
	// Local says that the listener lets in nobody but administrators: see [ListenSocket].
	Local bool
	// StateDir is the state directory that the daemon works on: see [StateDirHeader].
	StateDir string
	// Token is asked for the admin token at every request that needs one; not if Local. It may be
	// another one each time, and must not block.
	Token func() Token
	// Metrics answers /metrics.
	Metrics http.Handler
	// Readiness answers /readyz.
	Readiness Readiness
	// Policies answers /v1/policies; nil: nobody does.
	Policies Policies
	// Cluster answers /v1/cluster/policies; nil: nobody does.
	Cluster ClusterPolicies
	// Standing answers GET /v1/cluster; nil: nobody does.
	Standing Standing
	// Bans answers /v1/bans; nil: nobody does.
	Bans Bans
	// Top answers GET /v1/top; nil: nobody does.
	Top http.Handler
	// Checker answers POST /v1/check and /v1/release, and with Identity /v1/auth; nil: nobody does.
	Checker Checker
	// Identity tells /v1/auth who is asking, and for what; nil: it is not served.
	Identity Identity
	// Headers says which rate limit headers answers of /v1/check and /v1/auth have. It may be another one
	// each time, and must not block. Nil: [middleware.XRateLimit].
	Headers func() middleware.Dialect
	// Figures answers GET /v1/health and /v1/stats; nil: nobody does.
	Figures Figures
	// Buckets answers /v1/buckets; nil: nobody does.
	Buckets Buckets
	Log     *slog.Logger
}

// Server answers HTTP requests.
type Server struct {
	http     *http.Server
	listener *sweep
	log      *slog.Logger
}

// New makes a server, which answers once it runs.
func New(o Options) *Server {
	stopping := make(chan struct{})
	h := newHTTPServer(middleware.Recovered(o.Log, meant(o.StateDir, routes(o, stopping))))
	h.RegisterOnShutdown(sync.OnceFunc(func() { close(stopping) }))
	l := newSweep(o.Listener, maxAge{headerTimeout, requestTimeout, idleTimeout})
	h.ConnState = l.changed
	return &Server{http: h, listener: l, log: o.Log}
}

func newHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:        handler,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       serve.Silent(),
	}
}

// Run serves until ctx ends, and then lets requests that are being answered finish, for a few
// seconds. It returns nil unless serving failed. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	sweeping, stop := context.WithCancel(context.WithoutCancel(ctx)) // also while requests finish
	defer stop()
	go s.listener.run(sweeping, sweepEvery)
	if err := serve.Run(ctx, s.http, s.listener, s.log); err != nil {
		return fmt.Errorf("serve HTTP on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

package proxy

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

// What a client may take of the proxy. There is no limit to how long a request or an answer takes: both
// may be streams. See watchBody.
const (
	headerTimeout         = 10 * time.Second
	idleTimeout           = 2 * time.Minute
	maxRequestHeaderBytes = 64 << 10
)

// Server serves a proxy.
type Server struct {
	http     *http.Server
	listener net.Listener
	proxy    *Proxy
	log      *slog.Logger
	endAll   context.CancelFunc // of requests
	requests sync.WaitGroup     // those with upgraded connections too, which http.Server forgets
	entrance sync.RWMutex       // of requests
	closed   bool               // it is
}

// NewServer makes a server of a proxy on listener, which the server closes. It answers once it runs.
func NewServer(listener net.Listener, p *Proxy, l *slog.Logger) *Server {
	ctx, endAll := context.WithCancel(context.Background())
	s := &Server{listener: listener, proxy: p, log: l, endAll: endAll}
	s.http = &http.Server{
		Handler:           s.counted(middleware.Recovered(l, p)),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxRequestHeaderBytes,
		Protocols:         new(http.Protocols),
		ErrorLog:          serve.Silent(),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// Run serves until ctx ends, and then lets requests finish, for a few seconds. Upgraded connections end at
// once. It returns nil unless serving failed. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.endRequests()
	if err := serve.Run(ctx, s.http, s.listener, s.log); err != nil {
		return fmt.Errorf("serve the proxy on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// endRequests ends what is still going on, and returns when it has ended.
func (s *Server) endRequests() {
	s.entrance.Lock()
	s.closed = true
	s.entrance.Unlock()
	s.endAll()
	s.requests.Wait()
	s.proxy.CloseIdleConnections()
}

// enter counts a request, unless the server has ended. A WaitGroup must not be added to while it may be
// waited for, hence the lock; readers of it don't wait for each other.
func (s *Server) enter() bool {
	s.entrance.RLock()
	defer s.entrance.RUnlock()
	if !s.closed {
		s.requests.Add(1)
	}
	return !s.closed
}

func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			panic(http.ErrAbortHandler) // which closes the connection
		}
		defer s.requests.Done()
		next.ServeHTTP(w, r)
	})
}

// Package rls answers Envoy's rate limit service, envoy.service.ratelimit.v3, by the policies of a
// pkg/limiter or by the configuration of envoyproxy/ratelimit, which pkg/server/rls/rules reads.
//
// docs/RLS.md says what is answered to what, and how that differs from the server of envoyproxy/ratelimit.
package rls

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

// What a client may take of the server's time and memory.
const (
	// maxMessage is more than the headers of a request can fill, several times over: Envoy lets pass what the
	// service refuses to read.
	maxMessage     = 1 << 20
	maxHeaderBytes = 16 << 10
	// maxStreams are the calls of one connection at a time; Envoy has a connection for each of its threads, and
	// lets calls wait that are too many.
	maxStreams      = 1024
	setupTimeout    = 5 * time.Second
	idleTimeout     = 10 * time.Minute
	pingAfter       = time.Minute
	pingTimeout     = 20 * time.Second
	minPingInterval = 10 * time.Second
	// shutdownTimeout is how long calls that are being answered keep the daemon from ending.
	shutdownTimeout = 5 * time.Second
)

// Limiter is what decides: a [limiter.Limiter].
type Limiter interface {
	Check(ctx context.Context, q limiter.Query) (limiter.Result, error)
	CheckAll(ctx context.Context, queries []limiter.Query, results []limiter.Result) (bad int, err error)
	NewRule(p policy.Policy) (*limiter.Rule, error)
}

var _ Limiter = (*limiter.Limiter)(nil)

// Options says what a [Server] serves.
type Options struct {
	// Listener is where requests come from: TCP or a unix socket. The server closes it.
	Listener net.Listener
	// Limiter decides.
	Limiter Limiter
	// Config has the limits; nil: domain weir asks the limiter's policies. See [Server.SetConfig].
	Config *rules.Set
	// Headers sets the headers that Envoy's client is to be told a result by, Retry-After of a denial among them;
	// nil: none. The Policy of a result is the name of its limit in the configuration.
	Headers func(h http.Header, r *limiter.Result)
	// Shadow answers OK whatever was decided, which the statuses still say.
	Shadow bool
	// Log is told what nobody else is: domains that are not known, and failures.
	Log *slog.Logger
}

// Server answers gRPC calls.
type Server struct {
	pb.UnimplementedRateLimitServiceServer

	grpc     *grpc.Server
	health   *health.Server
	listener net.Listener
	limiter  Limiter
	headers  func(h http.Header, r *limiter.Result)
	shadow   bool
	log      *slog.Logger

	config    atomic.Pointer[config] // nil: by policies
	overrides overrides
	unknown   unknownDomains
	failures  rarely
}

// New makes a server, which answers once it runs. It fails if a limit of the configuration can't be enforced.
func New(o Options) (*Server, error) {
	s := &Server{
		listener: o.Listener, limiter: o.Limiter, headers: o.Headers, shadow: o.Shadow, log: o.Log,
		grpc: newGRPC(), health: health.NewServer(), overrides: overrides{limiter: o.Limiter},
	}
	if err := s.SetConfig(o.Config); err != nil {
		return nil, err
	}
	pb.RegisterRateLimitServiceServer(s.grpc, s)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	s.health.SetServingStatus(pb.RateLimitService_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	reflection.Register(s.grpc)
	return s, nil
}

func newGRPC() *grpc.Server {
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(setupTimeout),
		grpc.InTapHandle(bounded),
		grpc.StreamInterceptor(new(lasting).intercept),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingAfter, Timeout: pingTimeout}),
	)
}

// SetConfig puts other limits in force, in one step for requests, or changes nothing and fails. Limits that
// are in both keep their counts. nil is as in [Options]. Warnings of the set are for the caller to tell.
func (s *Server) SetConfig(set *rules.Set) error {
	if set == nil {
		s.config.Store(nil)
		return nil
	}
	c, err := compile(s.limiter, set)
	if err != nil {
		return err
	}
	s.config.Store(c)
	return nil
}

// UnknownDomains counts the requests that passed because there is no limit of their domain.
func (s *Server) UnknownDomains() uint64 { return s.unknown.total.Load() }

// Run serves until ctx ends, and then lets calls that are being answered finish, for a few seconds. It
// returns nil unless serving failed. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.grpc.Serve(s.listener) }()
	select {
	case err := <-failed:
		s.grpc.Stop()
		return fmt.Errorf("serve gRPC on %s: %w", s.listener.Addr(), err)
	case <-ctx.Done():
	}
	s.shutdown()
	<-failed
	return nil
}

func (s *Server) shutdown() {
	s.health.Shutdown() // who asks is told to go elsewhere
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	deadline := time.NewTimer(shutdownTimeout)
	defer deadline.Stop()
	select {
	case <-done:
	case <-deadline.C:
		// A call that hangs, or somebody who watches the health service, is no failure of ours.
		s.grpc.Stop()
		<-done
	}
}

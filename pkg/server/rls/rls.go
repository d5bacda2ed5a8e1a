// Package rls answers Envoy's rate limit service, envoy.service.ratelimit.v3.
package rls

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

// Limiter is what decides: a [limiter.Limiter].
type Limiter interface {
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
	// Headers sets the headers that the client is to be told a result by; nil: none.
	Headers func(h http.Header, r *limiter.Result)
	// Shadow answers OK whatever was decided, which the statuses still say.
	Shadow bool
	Log    *slog.Logger
}

// Server answers gRPC calls.
type Server struct{ _ int }

// New makes a server, which answers once it runs. It fails if a limit of the configuration can't be enforced.
func New(o Options) (*Server, error) { return nil, errors.New("not built yet") }

// SetConfig puts other limits in force, in one step for requests, or changes nothing and fails. Limits that
// are in both keep their counts. nil is as in [Options].
func (s *Server) SetConfig(set *rules.Set) error { return errors.New("not built yet") }

// Run serves until ctx ends, and then lets calls that are being answered finish, for a few seconds. It
// returns nil unless serving failed. It can be called once.
func (s *Server) Run(ctx context.Context) error { return errors.New("not built yet") }

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
	"github.com/weir-limiter/weir/pkg/server/proxy"
	"github.com/weir-limiter/weir/pkg/server/rls"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

// errRequestsOnly says that a daemon can't do what is asked of it, as it has nothing to do with the kernel.
var errRequestsOnly = errors.New("this daemon limits requests alone, as its file asked nothing of the kernel when it started")

// requests is the part of the daemon that judges requests. What belongs to the configuration is replaced as
// a whole, so that who answers requests takes no lock.
type requests struct {
	limiter *limiter.Limiter
	log     *slog.Logger
	rls     *rls.Server   // nil: server.grpc is empty
	proxy   *proxy.Server // nil: so is server.proxy
	tokens  tokenKeys

	inForce atomic.Pointer[preparedRequests]
}

var _ server.Identity = (*requests)(nil)

// preparedRequests is what a configuration asks of layer 7.
type preparedRequests struct {
	document policy.Document
	identity *identity.Resolver
	verifier verifier
	dialect  middleware.Dialect
	rules    *rules.Set // nil: the policies are for everybody
}

// newRequests makes a limiter that allows everything until something is put in force.
func newRequests(c *config.Config, s *sharing, log *slog.Logger) (*requests, error) {
	o := limiter.Options{Entries: int(c.Table.L7Entries), OnStoreFailure: c.Store().OnFailure}
	if s != nil {
		o.Store = s.sharer
	}
	l, err := limiter.New(o)
	if err != nil {
		return nil, fmt.Errorf("layer 7: %w", err)
	}
	r := &requests{limiter: l, log: log, tokens: newTokenKeys()}
	r.inForce.Store(&preparedRequests{})
	return r, nil
}

// serve makes the servers of the listeners that there are.
func (r *requests) serve(l listeners, c config.Server) error {
	if l.grpc != nil {
		if err := r.serveGRPC(l.grpc); err != nil {
			return err
		}
	}
	if l.proxy != nil {
		return r.serveProxy(l.proxy, c.Proxy)
	}
	return nil
}

// serveGRPC makes the server of Envoy's rate limit service.
func (r *requests) serveGRPC(l net.Listener) (err error) {
	r.rls, err = rls.New(rls.Options{
		Listener: l, Limiter: r.limiter, Log: r.log,
		Headers: func(h http.Header, res *limiter.Result) {
			r.dialect().Set(h, res, time.Now())
			if wait := middleware.RetryAfter(res); !res.Allowed && wait > 0 {
				h.Set("Retry-After", strconv.FormatUint(wait, 10))
			}
		},
	})
	if err != nil {
		return fmt.Errorf("server.grpc: %w", err)
	}
	return nil
}

// prepare does of a change what can fail by itself, and changes nothing.
func (r *requests) prepare(c *config.Config) (*preparedRequests, error) {
	p := &preparedRequests{document: c.Document()}
	if err := r.limiter.Try(p.document); err != nil {
		return nil, err
	}
	var err error
	if p.dialect, err = middleware.ParseDialect(string(c.Server.Headers)); err != nil {
		return nil, err
	}
	if p.verifier, err = r.inForce.Load().verifier.next(c.Server, r.log); err != nil {
		return nil, err
	}
	if p.identity, err = identity.New(identityOptions(c.Server, p.verifier.Verifier)); err != nil {
		return nil, err
	}
	if len(c.Server.RLSConfig) > 0 {
		if p.rules, err = rules.Load(c.Server.RLSConfig...); err != nil {
			return nil, fmt.Errorf("server.rls_config: %w", err)
		}
	}
	return p, nil
}

// begin does of a change what can fail, and be undone: see undo.
func (r *requests) begin(p *preparedRequests) error {
	if r.rls == nil {
		return nil
	}
	return r.rls.SetConfig(p.rules)
}

// undo makes of a change that was begun none.
func (r *requests) undo() {
	if r.rls == nil {
		return
	}
	if err := r.rls.SetConfig(r.inForce.Load().rules); err != nil {
		// These limits were in force a moment ago.
		r.log.Error("server.rls_config is not as it was; this is a defect of weir, please report it", "error", err)
	}
}

// commit puts in force what was prepared, and can't fail.
func (r *requests) commit(p *preparedRequests) {
	if err := r.limiter.Replace(p.document); err != nil {
		// prepare has tried the same document.
		r.log.Error("layer 7 keeps its policies; this is a defect of weir, please report it", "error", err)
	}
	r.inForce.Store(p)
	r.tokens.use(p.verifier.Verifier)
	if p.rules != nil {
		for _, warning := range p.rules.Warnings {
			r.log.Warn("server.rls_config", "warning", warning)
		}
	}
}

// ForwardAuth tells who asks, as the configuration in force has it.
func (r *requests) ForwardAuth(req *http.Request) (limiter.RequestContext, error) {
	return r.inForce.Load().identity.ForwardAuth(req)
}

func (r *requests) dialect() middleware.Dialect { return r.inForce.Load().dialect }

// components are what runs until the daemon ends.
func (r *requests) components() []func(context.Context) error {
	all := []func(context.Context) error{r.tokens.Run}
	if r.rls != nil {
		all = append(all, r.rls.Run)
	}
	if r.proxy != nil {
		all = append(all, r.proxy.Run)
	}
	return all
}

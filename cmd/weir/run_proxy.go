package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/server/proxy"
)

// serveProxy makes the reverse proxy.
func (r *requests) serveProxy(l net.Listener, c config.Proxy) error {
	upstream, err := url.Parse(c.Upstream)
	if err != nil {
		return fmt.Errorf("server.proxy.upstream: %w", err)
	}
	files, err := maxFiles()
	if err != nil {
		return err
	}
	p, err := proxy.New(proxy.Options{
		Upstream: upstream, Middleware: r.limited, Trusted: r.trusts, MaxConns: max(1, files/upstreamShare), Log: r.log,
	})
	if err != nil {
		return err
	}
	r.proxy = proxy.NewServer(l, p, r.log)
	return nil
}

// limited puts the limiter in front of a handler, with the dialect that is in force when a request comes.
func (r *requests) limited(next http.Handler) http.Handler {
	by := map[middleware.Dialect]http.Handler{}
	for _, d := range middleware.Dialects() {
		by[d] = middleware.HTTP(r.limiter, middleware.HTTPOptions{Extract: r.extract, Dialect: d})(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { by[r.dialect()].ServeHTTP(w, req) })
}

// extract tells who sent a request, as the configuration in force has it.
func (r *requests) extract(req *http.Request) (key string, rc limiter.RequestContext, err error) {
	rc, err = r.inForce.Load().identity.Request(req)
	return "", rc, err
}

// trusts tells of a peer whose X-Forwarded-* are believed.
func (r *requests) trusts(peer netip.Addr) bool { return r.inForce.Load().identity.Trusts(peer) }

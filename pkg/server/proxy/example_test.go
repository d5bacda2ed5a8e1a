package proxy_test

import (
	"context"
	"log"
	"log/slog"
	"net"
	"net/url"
	"os/signal"
	"syscall"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server/proxy"
)

func Example() {
	limits, err := limiter.New(limiter.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := limits.AddPolicy(context.Background(), policy.Policy{
		Name: "per-client", Scope: policy.ScopePerIP, Layer: policy.LayerL7, Limit: 100, Window: time.Minute,
	}.WithDefaults()); err != nil {
		log.Fatal(err)
	}

	p, err := proxy.New(proxy.Options{
		Upstream:   &url.URL{Scheme: "http", Host: "127.0.0.1:3000"},
		Middleware: middleware.HTTP(limits, middleware.HTTPOptions{}),
		Log:        slog.Default(),
	})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	time.AfterFunc(time.Millisecond, stop) // of the example; a program waits for the signal
	if err := proxy.NewServer(listener, p, slog.Default()).Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
}

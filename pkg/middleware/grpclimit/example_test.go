package grpclimit_test

import (
	"context"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware/grpclimit"
	"github.com/weir-limiter/weir/pkg/policy"
)

// who calls is what an authentication that ran before left in the metadata.
func who(ctx context.Context, fullMethod string) (string, limiter.RequestContext, error) {
	rc := limiter.RequestContext{Method: "POST", Endpoint: fullMethod}
	if user := metadata.ValueFromIncomingContext(ctx, "x-user"); len(user) == 1 {
		rc.UserID = user[0]
	}
	return "", rc, nil
}

func Example() {
	limits, err := limiter.New(limiter.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := limits.AddPolicy(context.Background(), policy.Policy{
		Name: "per-user", Scope: policy.ScopePerUser, Limit: 100, Window: time.Minute,
	}.WithDefaults()); err != nil {
		log.Fatal(err)
	}

	options := grpclimit.Options{Extract: who, PerMessage: true}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpclimit.UnaryServerInterceptor(limits, options)),
		grpc.ChainStreamInterceptor(grpclimit.StreamServerInterceptor(limits, options)),
	)
	healthpb.RegisterHealthServer(server, health.NewServer())

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	time.AfterFunc(time.Millisecond, server.Stop) // in earnest: when the program ends
	_ = server.Serve(listener)
	// Output:
}

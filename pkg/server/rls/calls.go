package rls

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

const (
	// callTimeout is how long a call may take, from its first byte on: gRPC by itself waits for ever for the
	// rest of a message, and keeps what there is of it.
	callTimeout = 5 * time.Second
	// maxLasting is how many calls there may be at a time that last as long as the client likes.
	maxLasting = 64
)

// lasts tells of the calls that are not over with one answer.
func lasts(method string) bool {
	switch method {
	case healthpb.Health_Watch_FullMethodName,
		grpc_reflection_v1.ServerReflection_ServerReflectionInfo_FullMethodName,
		grpc_reflection_v1alpha.ServerReflection_ServerReflectionInfo_FullMethodName:
		return true
	}
	return false
}

// bounded ends a call that takes too long.
func bounded(ctx context.Context, info *tap.Info) (context.Context, error) {
	if lasts(info.FullMethodName) {
		return ctx, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	_ = cancel // it ends with its parent, which gRPC ends with the call
	return ctx, nil
}

// lasting counts the calls that last.
type lasting struct{ n atomic.Int64 }

func (l *lasting) intercept(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	defer l.n.Add(-1)
	if l.n.Add(1) > maxLasting {
		return status.Errorf(codes.ResourceExhausted, "%d calls that last are under way: try again later", maxLasting)
	}
	return next(srv, stream)
}

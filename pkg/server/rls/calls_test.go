package rls

import (
	"io"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// TestUnfinishedCallEnds: whoever begins calls and never says what they are about holds them for callTimeout.
func TestUnfinishedCallEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	start := time.Now()
	stream, err := s.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, pb.RateLimitService_ShouldRateLimit_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	err = stream.RecvMsg(&pb.RateLimitResponse{})
	if took := time.Since(start); err == nil || err == io.EOF || took < callTimeout || took > 3*callTimeout {
		t.Errorf("after %s: %v, want an error after %s", took, err, callTimeout)
	}
}

// TestLastingCalls: they outlast callTimeout, and there are few.
func TestLastingCalls(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	client := healthpb.NewHealthClient(s.conn)
	watch := func() (healthpb.Health_WatchClient, error) {
		w, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = w.Recv()
		}
		return w, err
	}
	first, err := watch()
	if err != nil {
		t.Fatal(err)
	}
	for range maxLasting - 1 {
		if _, err := watch(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := watch(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v, want it refused", err)
	}
	time.AfterFunc(callTimeout+time.Second, s.health.Shutdown)
	if got, err := first.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("after %s: %v %v, want the end that was announced", callTimeout, got, err)
	}
}

// TestOverridesAreCountedAsOne: what is counted by a name is kept for ever, and shown in metrics.
func TestOverridesAreCountedAsOne(t *testing.T) {
	s := serve(t, nil)
	for n := range uint32(100) {
		d := descriptor("user", "ann")
		d.Limit = &ratelimit.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: 1, Unit: typev3.RateLimitUnit_SECOND, UnitMultiplier: wrapperspb.UInt32(n + 1)}
		s.expect(t, ok, request(PolicyDomain, d)) // each window has buckets of its own
		s.expect(t, over, request(PolicyDomain, d))
	}
	if all := s.limiter.(*limiter.Limiter).Counters().Policies; len(all) != 2 || all[0].Policy != overrideName || all[0].Allowed != 100 {
		t.Errorf("counted %+v, want 100 of one name beside the limits of HTTP", all)
	}
}

package rls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// refused checks that a request is the client's fault, in these words.
func (s *served) refused(t testing.TB, want string, req *pb.RateLimitRequest) {
	t.Helper()
	s.fails(t, codes.InvalidArgument, want, req)
}

func (s *served) fails(t testing.TB, code codes.Code, want string, req *pb.RateLimitRequest) {
	t.Helper()
	resp, err := s.client.ShouldRateLimit(t.Context(), req)
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), want) {
		t.Errorf("%v: %v %v, want %v %q", req, resp, err, code, want)
	}
}

// broken is a limiter that fails.
type broken struct{ err error }

func (b broken) Check(context.Context, limiter.Query) (limiter.Result, error) {
	if b.err == nil {
		panic("user ann")
	}
	return limiter.Result{}, b.err
}

func (b broken) CheckAll(_ context.Context, q []limiter.Query, _ []limiter.Result) (int, error) {
	return len(q) - 1, b.err
}

func (b broken) NewRule(policy.Policy) (*limiter.Rule, error) { return &limiter.Rule{}, nil }

func TestInternalErrorsAreUnavailable(t *testing.T) {
	one, two := request(PolicyDomain, descriptor("user", "ann")), request(PolicyDomain, descriptor("user", "ann"), descriptor("user", "bob"))
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{errors.New("redis: secret"), codes.Unavailable, "its log says why"},
		{nil, codes.Unavailable, "its log says why"}, // a panic
		{fmt.Errorf("late: %w", context.DeadlineExceeded), codes.DeadlineExceeded, ""},
		{&limiter.QueryError{Field: "key", Problem: "is odd", Mend: "x"}, codes.InvalidArgument, "descriptors[0].key: is odd; x"},
	} {
		s := serve(t, func(o *Options) { o.Limiter = broken{c.err} })
		s.fails(t, c.code, c.text, one)
		if c.err != nil {
			s.fails(t, c.code, strings.Replace(c.text, "[0]", "[1]", 1), two)
		}
		if logged := s.log.String(); (c.code == codes.Unavailable) != (logged != "") || strings.Contains(logged, "ann") {
			t.Errorf("%v: log %q", c.err, logged)
		}
	}
}

func TestRulesThatTheEngineRefuses(t *testing.T) {
	set := parse(t, "domain: d\ndescriptors:\n  - key: k\n    rate_limit: {unit: day, requests_per_unit: 1}\n")
	_, err := New(Options{Limiter: refusing{}, Config: set})
	if err == nil || err.Error() != "test.yaml:4:5: no such thing" {
		t.Errorf("%v", err)
	}
}

type refusing struct{ broken }

func (refusing) NewRule(policy.Policy) (*limiter.Rule, error) {
	return nil, errors.New("no such thing")
}

func TestUnixSocket(t *testing.T) {
	s := configured(t, "basic", func(o *Options) {
		o.Listener.Close()
		var err error
		if o.Listener, err = net.Listen("unix", filepath.Join(t.TempDir(), "rls.sock")); err != nil {
			t.Fatal(err)
		}
	})
	s.expect(t, ok, request("shop", descriptor("day", "x")))
	s.expect(t, over, request("shop", descriptor("day", "x")))
}

func TestMessagesAreBounded(t *testing.T) {
	s := configured(t, "basic", nil)
	s.expect(t, ok, request("shop", descriptor("day", strings.Repeat("x", maxMessage-100))))
	s.fails(t, codes.ResourceExhausted, "received message larger than max", request("shop", descriptor("day", strings.Repeat("x", maxMessage))))
}

func TestHealth(t *testing.T) {
	s := serve(t, nil)
	c := healthpb.NewHealthClient(s.conn)
	for _, service := range []string{"", "envoy.service.ratelimit.v3.RateLimitService"} {
		resp, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v %v", service, resp, err)
		}
	}
	watch, err := c.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := watch.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v %v", resp, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.stop()
	}()
	if resp, err := watch.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("who watches is not told of the end: %v %v", resp, err)
	}
	// The watch would go on for ever: the end is bounded.
	select {
	case <-ended:
	case <-time.After(2 * shutdownTimeout):
		t.Error("a call that hangs keeps the server from ending")
	}
}

// TestReflection calls the service as grpcurl does: with nothing but what reflection tells.
func TestReflection(t *testing.T) {
	s := configured(t, "basic", nil)
	stream, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tell := func(req *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	var names []string
	for _, s := range tell(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}).GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{"envoy.service.ratelimit.v3.RateLimitService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %q", want, names)
		}
	}
	files := &descriptorpb.FileDescriptorSet{}
	for _, raw := range tell(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "envoy.service.ratelimit.v3.RateLimitService"},
	}).GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(raw, f); err != nil {
			t.Fatal(err)
		}
		files.File = append(files.File, f)
	}
	registry, err := protodesc.NewFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	message := func(name protoreflect.FullName) *dynamicpb.Message {
		t.Helper()
		d, err := registry.FindDescriptorByName("envoy.service.ratelimit.v3." + name)
		if err != nil {
			t.Fatal(err)
		}
		return dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor))
	}
	in, out := message("RateLimitRequest"), message("RateLimitResponse")
	data, err := proto.Marshal(request("shop", descriptor("day", "x")))
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(data, in); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"overall_code:OK", "overall_code:OVER_LIMIT"} {
		if err := s.conn.Invoke(t.Context(), "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", in, out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.ReplaceAll(out.String(), ": ", ":"), want) {
			t.Errorf("%v, want %s", out, want)
		}
	}
}

func TestEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listener: l, Limiter: broken{}})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Run(t.Context()); err == nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// TestStorm: exactly what the limit says passes, however many ask, while the configuration is replaced.
func TestStorm(t *testing.T) {
	const text = "domain: d\ndescriptors:\n  - key: k\n    rate_limit: {unit: hour, requests_per_unit: 500}\n"
	s := serve(t, func(o *Options) { o.Config = parse(t, text) })
	var passed, denied atomic.Uint64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				resp, err := s.client.ShouldRateLimit(t.Context(), request("d", descriptor("k", "x")))
				switch {
				case err != nil:
					t.Error(err)
				case resp.GetOverallCode() == pb.RateLimitResponse_OK:
					passed.Add(1)
				default:
					denied.Add(1)
				}
			}
		})
	}
	all.Go(func() {
		for i := range 50 {
			set := parse(t, strings.Replace(text, "domain: d\n", fmt.Sprintf("domain: d\n# %d\n", i), 1))
			if err := s.SetConfig(set); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	if passed.Load() != 500 || denied.Load() != 1100 {
		t.Errorf("%d passed, %d denied", passed.Load(), denied.Load())
	}
}

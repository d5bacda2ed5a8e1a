package grpclimit

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// service is what is limited: it counts calls, and echoes in streams.
type service struct {
	testpb.UnimplementedTestServiceServer
	calls   atomic.Int64
	entered chan struct{}                                       // if not nil, unary calls tell it, and stay until the client hangs up
	stream  func(testpb.TestService_FullDuplexCallServer) error // if not nil, instead of the echo
}

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	s.calls.Add(1)
	if s.entered != nil {
		s.entered <- struct{}{}
		<-ctx.Done()
	}
	return &testpb.SimpleResponse{}, nil
}

func (s *service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	s.calls.Add(1)
	if s.stream != nil {
		return s.stream(stream)
	}
	for {
		switch _, err := stream.Recv(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// start serves s with a limiter over a real connection.
func start(t *testing.T, s *service, l middleware.Checker, o Options) testpb.TestServiceClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(UnaryServerInterceptor(l, o)), grpc.StreamInterceptor(StreamServerInterceptor(l, o)))
	testpb.RegisterTestServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return testpb.NewTestServiceClient(conn)
}

func engine(t *testing.T, lists policy.Document, policies ...policy.Policy) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(limiter.Options{Entries: limiter.MinEntries})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range policies {
		p.Layer = policy.LayerL7
		lists.Policies = append(lists.Policies, p.WithDefaults())
	}
	if err := l.Replace(lists); err != nil {
		t.Fatal(err)
	}
	return l
}

func clock() time.Time { return time.Unix(1_800_000_000, 0) }

func TestUnary(t *testing.T) {
	l := engine(t, policy.Document{}, policy.Policy{Name: "two", Scope: policy.ScopePerIP, Limit: 2, Window: time.Hour,
		Match: policy.Match{Endpoints: []string{"/grpc.testing.TestService/*"}, Methods: []string{"POST"}}, Headers: map[string]string{"X-Tier": "gold"}})
	s := &service{}
	client := start(t, s, l, Options{Dialect: middleware.Both, Now: clock})
	var header metadata.MD
	for range 2 {
		if _, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"x-ratelimit-limit": "2", "x-ratelimit-remaining": "0", "x-ratelimit-policy": "two", "x-ratelimit-reset": "1800003600",
		"ratelimit-policy": `"two";q=2;w=3600`, "ratelimit": `"two";r=0;t=3600`, "x-tier": "gold", "retry-after": "",
	} {
		if got := strings.Join(header.Get(name), ","); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	_, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.Header(&header))
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || st.Message() != "rate limit exceeded" || len(st.Details()) != 2 || s.calls.Load() != 2 {
		t.Fatalf("%v, %v, %d calls", err, st.Details(), s.calls.Load())
	}
	wait := st.Details()[0].(*errdetails.RetryInfo).GetRetryDelay().AsDuration()
	if wait <= 1700*time.Second || wait > 1800*time.Second {
		t.Errorf("retry in %s", wait)
	}
	v := st.Details()[1].(*errdetails.QuotaFailure).GetViolations()[0]
	if v.GetSubject() != "policy:two" || v.GetDescription() != "limit of 2 per 1h exceeded" || v.GetQuotaId() != "two" || v.GetQuotaValue() != 2 {
		t.Errorf("%v", v)
	}
	if got := header.Get("retry-after"); len(got) != 1 || got[0] != "1800" {
		t.Errorf("retry-after %v", got)
	}
}

func TestStatuses(t *testing.T) {
	for name, c := range map[string]struct {
		checker middleware.Checker
		options Options
		code    codes.Code
		message string
	}{
		"deny list": {engine(t, policy.Document{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), Options{}, codes.PermissionDenied, "access denied"},
		"bad query": {engine(t, policy.Document{}), Options{Extract: func(context.Context, string) (string, limiter.RequestContext, error) {
			return "", limiter.RequestContext{UserID: strings.Repeat("a", limiter.MaxKey+1)}, nil
		}}, codes.InvalidArgument, "context.user_id: "},
		"extraction": {engine(t, policy.Document{}), Options{Extract: func(context.Context, string) (string, limiter.RequestContext, error) {
			return "", limiter.RequestContext{}, errors.New("no tenant")
		}}, codes.InvalidArgument, "no tenant"},
		"hits over burst": {engine(t, policy.Document{}, policy.Policy{Name: "a", Scope: policy.ScopeGlobal, Limit: 5, Window: time.Second}),
			Options{Hits: func(context.Context, string) uint64 { return 6 }}, codes.ResourceExhausted, "rate limit exceeded: no more than 5 at once will ever pass"},
		"skipped": {engine(t, policy.Document{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
			Options{Skip: func(_ context.Context, m string) bool { return m == "/grpc.testing.TestService/UnaryCall" }}, codes.OK, ""},
		"failure, open":   {broken{}, Options{}, codes.OK, ""},
		"failure, closed": {broken{}, Options{FailClosed: true}, codes.Unavailable, "the rate limiter can't decide now"},
	} {
		t.Run(name, func(t *testing.T) {
			s, failures := &service{}, 0
			c.options.OnFailure = func(context.Context, string, error) { failures++ }
			var header metadata.MD
			_, err := start(t, s, c.checker, c.options).UnaryCall(t.Context(), &testpb.SimpleRequest{}, grpc.Header(&header))
			if st := status.Convert(err); st.Code() != c.code || !strings.HasPrefix(st.Message(), c.message) {
				t.Errorf("%v", err)
			}
			if (s.calls.Load() == 1) != (c.code == codes.OK) {
				t.Errorf("%d calls", s.calls.Load())
			}
			if _, isBroken := c.checker.(broken); isBroken != (failures == 1) {
				t.Errorf("%d failures", failures)
			}
			if after := header.Get("retry-after"); (len(after) > 0) != (c.code == codes.ResourceExhausted) {
				t.Errorf("retry-after %v", after)
			}
		})
	}
}

// broken is a limiter whose store is away.
type broken struct{}

func (broken) Check(context.Context, limiter.Query) (limiter.Result, error) {
	return limiter.Result{}, errors.New("the store is away")
}
func (broken) Release(*limiter.Result) {}

// watched tells when something was released.
type watched struct {
	*limiter.Limiter
	released chan struct{}
}

func (w watched) Release(r *limiter.Result) {
	if r.Releases() {
		defer func() { w.released <- struct{}{} }()
	}
	w.Limiter.Release(r)
}

func TestInFlight(t *testing.T) {
	l := watched{released: make(chan struct{}), Limiter: engine(t, policy.Document{},
		policy.Policy{Name: "one", Scope: policy.ScopeGlobal, Algorithm: policy.AlgorithmConcurrency, Limit: 1, Window: time.Hour})}
	s := &service{entered: make(chan struct{})}
	client := start(t, s, l, Options{})
	for range 3 {
		ctx, hangUp := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
			first <- err
		}()
		<-s.entered
		if _, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a second one in flight: %v", err)
		}
		hangUp()
		if err := <-first; status.Code(err) != codes.Canceled {
			t.Errorf("%v", err)
		}
		<-l.released
	}
}

// exchange opens a stream and sends messages until one is refused, n at most.
func exchange(t *testing.T, client testpb.TestServiceClient, n int) (sent int, trailer metadata.MD, err error) {
	t.Helper()
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		return 0, nil, err
	}
	for range n {
		_ = stream.Send(&testpb.StreamingOutputCallRequest{}) // Recv knows why it failed
		if _, err := stream.Recv(); err != nil {
			return sent, stream.Trailer(), err
		}
		sent++
	}
	if header, err := stream.Header(); err != nil || len(header.Get("x-ratelimit-limit")) != 1 {
		t.Errorf("headers %v, %v", header, err)
	}
	_ = stream.CloseSend()
	_, err = stream.Recv()
	return sent, nil, err
}

func TestStreams(t *testing.T) {
	limit := func(algorithm policy.Algorithm) *limiter.Limiter {
		return engine(t, policy.Document{}, policy.Policy{Name: "a", Scope: policy.ScopeGlobal, Algorithm: algorithm, Limit: 3, Window: time.Hour})
	}
	t.Run("each is one hit", func(t *testing.T) {
		client := start(t, &service{}, limit(policy.AlgorithmTokenBucket), Options{})
		for range 3 {
			if sent, _, err := exchange(t, client, 5); sent != 5 || err != io.EOF {
				t.Fatalf("%d, %v", sent, err)
			}
		}
		if sent, _, err := exchange(t, client, 5); sent != 0 || status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%d, %v", sent, err)
		}
	})
	t.Run("each message is one hit", func(t *testing.T) {
		client := start(t, &service{}, limit(policy.AlgorithmTokenBucket), Options{PerMessage: true})
		sent, trailer, err := exchange(t, client, 5)
		if sent != 3 || status.Code(err) != codes.ResourceExhausted || !cmp.Equal(trailer.Get("retry-after"), []string{"1200"}) {
			t.Errorf("%d, %v, %v", sent, err, trailer)
		}
	})
	t.Run("messages in flight", func(t *testing.T) {
		client := start(t, &service{}, limit(policy.AlgorithmConcurrency), Options{PerMessage: true})
		for range 5 { // more than the limit: each stream gives back what its last message held
			if sent, _, err := exchange(t, client, 5); sent != 5 || err != io.EOF {
				t.Fatalf("%d, %v", sent, err)
			}
		}
	})
}

func TestAddress(t *testing.T) {
	unix := &net.UnixAddr{Name: "/run/a", Net: "unix"}
	for want, a := range map[string]net.Addr{
		"192.0.2.1":   &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 1}, // which is mapped into IPv6
		"fe80::1":     &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"},
		"203.0.113.1": text("203.0.113.1:443"),
		"invalid IP":  unix,
	} {
		if got := address(a).String(); got != want {
			t.Errorf("%v: %s", a, got)
		}
	}
	if address(nil).IsValid() || address(text("@")).IsValid() {
		t.Error("an address of nothing")
	}
}

type text string

func (text) Network() string  { return "tcp" }
func (t text) String() string { return string(t) }

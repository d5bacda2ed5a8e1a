package rls

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server/rls/rules"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// served is a running server with a client.
type served struct {
	*Server
	client pb.RateLimitServiceClient
	conn   *grpc.ClientConn
	log    *testutil.Log
	stop   func() // ends the server, and waits for it
	now    *clock
}

// clock is the time of a limiter. It begins in the middle of a day, and 10 s before the end of a minute.
type clock struct {
	mu sync.Mutex
	limiter.Instant
}

const begin = 1_800_000_000*time.Second + 50*time.Second - 1_800_000_000%60*time.Second

func (c *clock) now() limiter.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Instant
}

func (c *clock) advance(t *testing.T, d time.Duration) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Unix += d
	c.Ticks += bucket.AtNanoseconds(uint64(d))
}

func newLimiter(t testing.TB, now func() limiter.Instant, policies ...policy.Policy) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(limiter.Options{Entries: 1 << 14, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	for i := range policies {
		policies[i] = policies[i].WithDefaults()
	}
	if err := l.Replace(policy.Document{Policies: policies}); err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs a server. change may alter its options, which are those of an empty limiter on loopback.
func serve(t testing.TB, change func(*Options), policies ...policy.Policy) *served {
	t.Helper()
	s := &served{log: &testutil.Log{}, now: &clock{Instant: limiter.Instant{Unix: begin}}}
	o := Options{Limiter: newLimiter(t, s.now.now, policies...), Log: slog.New(slog.NewTextHandler(s.log, nil))}
	var err error
	if o.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	if s.Server, err = New(o); err != nil {
		o.Listener.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(s.stop)
	s.conn = dial(t, o.Listener.Addr())
	s.client = pb.NewRateLimitServiceClient(s.conn)
	return s
}

func dial(t testing.TB, addr net.Addr) *grpc.ClientConn {
	t.Helper()
	target := addr.String()
	if addr.Network() == "unix" {
		target = "unix:" + target
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// configured serves a good file of the corpus.
func configured(t testing.TB, file string, change func(*Options)) *served {
	t.Helper()
	return serve(t, func(o *Options) {
		set, err := rules.Load(filepath.Join("../../../testdata/rls/good", file+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		o.Config = set
		if change != nil {
			change(o)
		}
	})
}

func parse(t testing.TB, text string) *rules.Set {
	t.Helper()
	set, err := rules.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// descriptor makes one of pairs of key and value.
func descriptor(pairs ...string) *pbDescriptor {
	d := &pbDescriptor{}
	for i := 0; i < len(pairs); i += 2 {
		d.Entries = append(d.Entries, &ratelimit.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return d
}

func worth(hits uint64, d *pbDescriptor) *pbDescriptor {
	d.HitsAddend = wrapperspb.UInt64(hits)
	return d
}

func request(domain string, descriptors ...*pbDescriptor) *pb.RateLimitRequest {
	return &pb.RateLimitRequest{Domain: domain, Descriptors: descriptors}
}

// ask fails the test unless there is an answer with a status for each descriptor.
func (s *served) ask(t testing.TB, req *pb.RateLimitRequest) *pb.RateLimitResponse {
	t.Helper()
	resp, err := s.client.ShouldRateLimit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetStatuses()) != len(req.GetDescriptors()) || resp.GetOverallCode() == pb.RateLimitResponse_UNKNOWN {
		t.Fatalf("%v", resp)
	}
	return resp
}

// codes spells the codes of an answer: the overall one, and those of the statuses.
func spell(resp *pb.RateLimitResponse) string {
	text := resp.GetOverallCode().String() + ":"
	for _, s := range resp.GetStatuses() {
		text += " " + s.GetCode().String()
	}
	return text
}

// expect asks and compares codes.
func (s *served) expect(t testing.TB, want string, req *pb.RateLimitRequest) *pb.RateLimitResponse {
	t.Helper()
	resp := s.ask(t, req)
	if got := spell(resp); got != want {
		t.Errorf("%v\n got %s\nwant %s", req, got, want)
	}
	return resp
}

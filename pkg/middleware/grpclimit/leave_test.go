package grpclimit

import (
	"context"
	"testing"
	"time"

	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// slow answers the second question once the call that it is of was released.
type slow struct {
	*limiter.Limiter
	asked    chan struct{}
	released chan struct{}
	n        int
}

func (s *slow) Check(ctx context.Context, q limiter.Query) (limiter.Result, error) {
	if s.n++; s.n == 2 {
		close(s.asked)
		<-s.released
	}
	return s.Limiter.Check(ctx, q)
}

func (s *slow) Release(r *limiter.Result) {
	s.Limiter.Release(r)
	select {
	case <-s.asked: // by a handler that is about to return, and then that of its end
		select {
		case <-s.released:
		default:
			close(s.released)
		}
	default:
	}
}

// TestLeaves: a handler that returns while another goroutine of it receives, as proxies do, leaves no place taken
// by the message that came last.
func TestLeaves(t *testing.T) {
	l := engine(t, policy.Document{}, policy.Policy{Name: "flight", Scope: policy.ScopeGlobal, Limit: 1, Window: time.Hour, Algorithm: policy.AlgorithmConcurrency})
	checker := &slow{Limiter: l, asked: make(chan struct{}), released: make(chan struct{})}
	received := make(chan error, 1)
	s := &service{stream: func(stream testpb.TestService_FullDuplexCallServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		go func() {
			_, err := stream.Recv()
			received <- err
		}()
		<-checker.asked
		return nil
	}}
	client := start(t, s, checker, Options{PerMessage: true})
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Recv(); err == nil {
		t.Fatal("the handler answered")
	}
	<-received
	if b, err := l.Bucket("flight", limiter.GlobalKey); err != nil || b.Remaining != 1 {
		t.Errorf("%d of 1 place is free after the call (%v)", b.Remaining, err)
	}
}

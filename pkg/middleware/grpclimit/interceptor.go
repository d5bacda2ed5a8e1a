package grpclimit

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
)

// UnaryServerInterceptor makes an interceptor that asks l about each call. What is denied gets status
// RESOURCE_EXHAUSTED with RetryInfo and QuotaFailure, or PERMISSION_DENIED if a list of addresses decided,
// and never gets to the handler. The headers of the dialect, and retry-after, are sent as metadata. A query
// that nobody can decide over as it is gets INVALID_ARGUMENT. A call counts as in flight, for policies of
// algorithm concurrency, until its handler returns.
func UnaryServerInterceptor(l middleware.Checker, o Options) grpc.UnaryServerInterceptor {
	o.setDefaults()
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if o.Skip != nil && o.Skip(ctx, info.FullMethod) {
			return handler(ctx, request)
		}
		var res limiter.Result
		defer func() { l.Release(&res) }() // also if the handler panics
		err := o.admit(ctx, l, info.FullMethod, &res)
		if md := o.metadata(&res); len(md) > 0 {
			_ = grpc.SetHeader(ctx, md) // they can't be gone yet
		}
		if err != nil {
			return nil, err
		}
		return handler(ctx, request)
	}
}

// StreamServerInterceptor makes an interceptor that asks l about each stream when it is opened and, if
// the options want it, about the messages that it receives. All else is as with [UnaryServerInterceptor].
func StreamServerInterceptor(l middleware.Checker, o Options) grpc.StreamServerInterceptor {
	o.setDefaults()
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx := stream.Context()
		if o.Skip != nil && o.Skip(ctx, info.FullMethod) {
			return handler(server, stream)
		}
		limited := &limitedStream{ServerStream: stream, options: &o, checker: l, fullMethod: info.FullMethod}
		defer limited.end()
		err := o.admit(ctx, l, info.FullMethod, &limited.res)
		if md := o.metadata(&limited.res); len(md) > 0 {
			_ = stream.SetHeader(md) // they can't be gone yet
		}
		if err != nil {
			return err
		}
		if !o.PerMessage {
			return handler(server, stream) // as it is: whoever looks for more than the interface finds it
		}
		return handler(server, limited)
	}
}

// admit decides over a call or message, and waits for its turn. It returns the status of what is denied.
func (o *Options) admit(ctx context.Context, l middleware.Checker, fullMethod string, res *limiter.Result) error {
	*res = limiter.Result{Allowed: true} // what no figures are told of
	key, rc, err := o.Extract(ctx, fullMethod)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	q := limiter.Query{Key: key, Request: &rc, Hits: 1, MaxDelay: middleware.MaxDelay(ctx, o.MaxDelay)}
	if o.Hits != nil {
		q.Hits = o.Hits(ctx, fullMethod)
	}
	if *res, err = l.Check(ctx, q); err != nil {
		*res = limiter.Result{Allowed: true}
		return o.undecided(ctx, fullMethod, err)
	}
	if err := middleware.Wait(ctx, res); err != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if !res.Allowed {
		return denial(res)
	}
	return nil
}

// undecided refuses a call that is at fault itself, or whose client is gone, and does as it is told when
// the limiter is at fault.
func (o *Options) undecided(ctx context.Context, fullMethod string, err error) error {
	switch {
	case errors.Is(err, limiter.ErrQuery):
		return status.Error(codes.InvalidArgument, err.Error())
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	if o.OnFailure != nil {
		o.OnFailure(ctx, fullMethod, err)
	}
	if o.FailClosed {
		return status.Error(codes.Unavailable, "the rate limiter can't decide now; retry later")
	}
	return nil
}

// limitedStream asks about the messages that it receives.
type limitedStream struct {
	grpc.ServerStream
	options    *Options
	checker    middleware.Checker
	fullMethod string
	res        limiter.Result // of the last message
	further    bool           // the first message was received

	// mu keeps res from a goroutine that still receives when the handler returns, as those of proxies do. But for
	// that nobody waits for it.
	mu    sync.Mutex
	ended bool
}

// RecvMsg receives a message, and fails if it is denied. As with any stream, one goroutine at a time may
// call it.
func (s *limitedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	if !s.further {
		s.further = true
		return nil
	}
	s.hold(limiter.Result{})
	var res limiter.Result
	err := s.options.admit(s.Context(), s.checker, s.fullMethod, &res)
	if !res.Allowed {
		s.SetTrailer(s.options.metadata(&res)) // the headers may be gone, and would pile up if not
	}
	s.hold(res)
	return err
}

// hold releases what the stream holds, and keeps another result in its place; if it has ended, it releases that too.
func (s *limitedStream) hold(res limiter.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checker.Release(&s.res)
	s.res = res
	if s.ended {
		s.checker.Release(&s.res)
	}
}

func (s *limitedStream) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.hold(limiter.Result{})
}

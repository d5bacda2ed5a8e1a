package rls

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	"github.com/weir-limiter/weir/pkg/policy"
)

// empty answers without a thought: what gRPC itself costs.
type empty struct {
	pb.UnimplementedRateLimitServiceServer
}

func (empty) ShouldRateLimit(context.Context, *pb.RateLimitRequest) (*pb.RateLimitResponse, error) {
	return &pb.RateLimitResponse{OverallCode: pb.RateLimitResponse_OK}, nil
}

func serveEmpty(b *testing.B) pb.RateLimitServiceClient {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterRateLimitServiceServer(s, empty{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	b.Cleanup(func() {
		s.Stop()
		<-done
	})
	return pb.NewRateLimitServiceClient(dial(b, l.Addr()))
}

const (
	benchClients = 32 // calls under way
	benchKeys    = 10_000
	benchRound   = 200 * time.Millisecond
)

// benchRequests are made before, so that the client does the same for both servers.
func benchRequests(domain string) []*pb.RateLimitRequest {
	list := make([]*pb.RateLimitRequest, benchKeys)
	for i := range list {
		list[i] = request(domain, descriptor("user", "user-"+strconv.Itoa(i)))
	}
	return list
}

// rate calls a server for some time, and returns the calls per second.
func rate(b *testing.B, client pb.RateLimitServiceClient, requests []*pb.RateLimitRequest) float64 {
	b.Helper()
	var n atomic.Uint64
	start := time.Now()
	deadline := start.Add(benchRound)
	done := make(chan struct{})
	for c := range benchClients {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := c; time.Now().Before(deadline); i += benchClients {
				if _, err := client.ShouldRateLimit(b.Context(), requests[i%len(requests)]); err != nil {
					b.Error(err)
					return
				}
				n.Add(1)
			}
		}()
	}
	for range benchClients {
		<-done
	}
	return float64(n.Load()) / time.Since(start).Seconds()
}

// BenchmarkRatio prints the throughput of weir, by rules and by policies, against that of an empty server
// which the same client calls in turns with it: of_empty is the median of the rounds.
func BenchmarkRatio(b *testing.B) {
	set := parse(b, "domain: d\ndescriptors:\n  - key: user\n    rate_limit: {unit: hour, requests_per_unit: 1000000}\n")
	for _, c := range []struct {
		name, domain string
		change       func(*Options)
	}{
		{"rules", "d", func(o *Options) { o.Config = set }},
		{"policies", PolicyDomain, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			requests := benchRequests(c.domain)
			idle := serveEmpty(b)
			weir := serve(b, c.change, per(policy.ScopePerUser, "users", 1_000_000, time.Hour)).client
			rate(b, idle, requests)
			rate(b, weir, requests)
			var ratios, rates []float64
			for b.Loop() {
				nothing := rate(b, idle, requests)
				something := rate(b, weir, requests)
				ratios, rates = append(ratios, something/nothing), append(rates, something)
			}
			b.ReportMetric(median(ratios), "of_empty")
			b.ReportMetric(median(rates), "calls/s")
		})
	}
}

// BenchmarkShouldRateLimit is a call without gRPC: time and memory of weir's own.
func BenchmarkShouldRateLimit(b *testing.B) {
	set := parse(b, "domain: d\ndescriptors:\n  - key: user\n    rate_limit: {unit: hour, requests_per_unit: 1000000}\n")
	for _, c := range []struct {
		name, domain string
		change       func(*Options)
	}{
		{"rules", "d", func(o *Options) { o.Config = set }},
		{"policies", PolicyDomain, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := serve(b, c.change, per(policy.ScopePerUser, "users", 1_000_000, time.Hour))
			requests := benchRequests(c.domain)
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for i := 0; p.Next(); i++ {
					if _, err := s.ShouldRateLimit(b.Context(), requests[i%benchKeys]); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

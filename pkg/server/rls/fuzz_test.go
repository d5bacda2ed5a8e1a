package rls

import (
	"testing"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/weir-limiter/weir/pkg/policy"
)

// FuzzShouldRateLimit: every message is answered whole, or it is its own fault. A panic would be answered too,
// with another code.
func FuzzShouldRateLimit(f *testing.F) {
	for _, req := range []*pb.RateLimitRequest{
		request(PolicyDomain, descriptor("user", "ann", "client_ip", "192.0.2.1", "path", "/a?b", "x", "y"), worth(0, descriptor("api_key", "k"))),
		request("shop", descriptor("tier", "gold", "user", "ann")),
		request("shop", worth(1<<63, descriptor("path", "/login\xff"[:6]))),
		{Domain: "d", HitsAddend: 1 << 31},
	} {
		data, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	byPolicies := serve(f, nil, per(policy.ScopePerUser, "users", 5, time.Hour), per(policy.ScopePerIP, "addresses", 50, time.Hour))
	byRules := configured(f, "basic", nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		var req pb.RateLimitRequest
		if proto.Unmarshal(data, &req) != nil {
			return
		}
		for _, s := range []*served{byPolicies, byRules} {
			resp, err := s.ShouldRateLimit(t.Context(), &req)
			if err != nil {
				if status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() == "" {
					t.Fatalf("%v: %v", &req, err)
				}
				continue
			}
			if len(resp.GetStatuses()) != len(req.GetDescriptors()) || resp.GetOverallCode() == pb.RateLimitResponse_UNKNOWN {
				t.Fatalf("%v: %v", &req, resp)
			}
			if _, err := proto.Marshal(resp); err != nil { // text that is not UTF-8, say
				t.Fatalf("%v: %v", &req, err)
			}
		}
	})
}

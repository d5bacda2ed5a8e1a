package rls

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

func per(scope policy.Scope, name string, limit uint64, window time.Duration) policy.Policy {
	return policy.Policy{Name: name, Scope: scope, Layer: policy.LayerL7, Limit: limit, Window: window}
}

func TestPolicies(t *testing.T) {
	roles := per(policy.ScopeGlobal, "guests", 2, time.Hour)
	roles.Match = policy.Match{Roles: []string{"guest"}, Methods: []string{"POST"}}
	tenants := per(policy.ScopeCustom, "tenants", 2, time.Hour)
	tenants.Key = "{metadata.tenant}"
	for _, c := range []struct {
		name       string
		policy     policy.Policy
		one, other []string // buckets apart
		also       []string // of the same bucket as one
	}{
		{"user", per(policy.ScopePerUser, "p", 2, time.Hour), []string{"user", "ann"}, []string{"user", "bob"}, []string{"role", "x", "user", "ann"}},
		{"api_key", per(policy.ScopePerAPIKey, "p", 2, time.Hour), []string{"api_key", "s3cret"}, []string{"api_key", "other"}, nil},
		{"client_ip", per(policy.ScopePerIP, "p", 2, time.Hour), []string{"client_ip", "192.0.2.1"}, []string{"client_ip", "192.0.2.2"},
			[]string{"remote_address", "::ffff:192.0.2.1"}},
		{"endpoint", per(policy.ScopePerEndpoint, "p", 2, time.Hour), []string{"endpoint", "/a"}, []string{"path", "/b"},
			[]string{"path", "/a?q=" + strings.Repeat("x", 2000)}},
		{"role and method", roles, []string{"role", "guest", "method", "post"}, []string{"role", "guest", "method", "GET"}, nil},
		{"metadata", tenants, []string{"tenant", "acme"}, []string{"tenant", "other"}, nil},
		{"odd user", per(policy.ScopePerUser, "p", 2, time.Hour), []string{"user", "a\nb"}, []string{"user", "ann"}, nil},
		{"long user", per(policy.ScopePerUser, "p", 2, time.Hour), []string{"user", strings.Repeat("x", 4000)}, []string{"user", "ann"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, nil, c.policy)
			one := request(PolicyDomain, descriptor(c.one...))
			st := s.expect(t, ok, one).GetStatuses()[0]
			if l := st.GetCurrentLimit(); l.GetName() != c.policy.Name || l.GetRequestsPerUnit() != 2 ||
				l.GetUnit() != pb.RateLimitResponse_RateLimit_HOUR || st.GetLimitRemaining() != 1 {
				t.Errorf("%v", st)
			}
			if c.also != nil {
				one = request(PolicyDomain, descriptor(c.also...))
			}
			s.expect(t, ok, one)
			s.expect(t, over, one)
			s.expect(t, ok, request(PolicyDomain, descriptor(c.other...)))
		})
	}
}

func TestPoliciesAllOrNothing(t *testing.T) {
	s := serve(t, nil, per(policy.ScopePerUser, "users", 1, time.Hour))
	ann, bob := descriptor("user", "ann"), descriptor("user", "bob")
	s.expect(t, ok, request(PolicyDomain, ann))
	s.expect(t, "OVER_LIMIT: OK OVER_LIMIT OK", request(PolicyDomain, bob, ann, descriptor("nothing", "x")))
	s.expect(t, ok, request(PolicyDomain, bob))
	s.expect(t, ok, request("another", ann))
}

func TestPoliciesDenyList(t *testing.T) {
	l := newLimiter(t, nil)
	s := serve(t, func(o *Options) { o.Limiter = l })
	if err := l.Replace(policy.Document{Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}); err != nil {
		t.Fatal(err)
	}
	st := s.expect(t, over, request(PolicyDomain, descriptor("client_ip", "192.0.2.7"))).GetStatuses()[0]
	if st.GetCurrentLimit() != nil {
		t.Errorf("%v", st)
	}
	s.expect(t, ok, request(PolicyDomain, descriptor("client_ip", "198.51.100.7")))
}

// TestPoliciesPacing: there is no way to have Envoy wait, so that of a leaky bucket passes what is on time.
func TestPoliciesPacing(t *testing.T) {
	p := per(policy.ScopeGlobal, "queue", 1, time.Second)
	p.Algorithm, p.Burst = policy.AlgorithmLeakyBucket, 3
	s := serve(t, nil, p)
	req := request(PolicyDomain, descriptor("user", "ann"))
	for range 3 {
		s.expect(t, ok, req)
		for range 5 {
			s.expect(t, over, req)
		}
		s.now.advance(t, time.Second) // and not later, for what was denied has no place in the queue
	}
}

func TestPoliciesShadow(t *testing.T) {
	p := per(policy.ScopePerUser, "users", 1, time.Hour)
	p.Mode = policy.ModeShadow
	s := serve(t, nil, p)
	for range 3 {
		s.expect(t, ok, request(PolicyDomain, descriptor("user", "ann")))
	}
}

func TestRefusedRequests(t *testing.T) {
	s := serve(t, nil, per(policy.ScopeGlobal, "all", 1000, time.Hour))
	many := make([]*pbDescriptor, maxDescriptors+1)
	for i := range many {
		many[i] = descriptor("user", "ann")
	}
	negative := descriptor("user", "ann")
	negative.IsNegativeHits = true
	var names []string
	for i := range 100 {
		names = append(names, strings.Repeat("n", i+1), "x")
	}
	for want, req := range map[string]*pb.RateLimitRequest{
		"rate limit domain must not be empty":                          request("", descriptor("user", "ann")),
		"rate limit descriptor list must not be empty":                 request(PolicyDomain),
		"257 descriptors: send at most 256":                            request(PolicyDomain, many...),
		"descriptors[1].is_negative_hits: weir takes no hits back":     request(PolicyDomain, descriptor("user", "ann"), negative),
		"descriptors[0].entries[1]: the value is no IP address":        request(PolicyDomain, descriptor("user", "ann", "client_ip", "geheim")),
		"descriptors[0].entries[1]: this was said by another entry":    request(PolicyDomain, descriptor("path", "/", "endpoint", "/a")),
		"descriptors[0].entries[2]: this was said by another entry":    request(PolicyDomain, descriptor("a", "1", "b", "2", "a", "3")),
		"descriptors[0].entries[0]: the key is empty":                  request(PolicyDomain, descriptor("", "x")),
		"descriptors[1].context.metadata: has 100 names; send at most": request(PolicyDomain, descriptor("user", "ann"), descriptor(names...)),
	} {
		s.refused(t, want, req)
	}
	if st := s.ask(t, request(PolicyDomain, descriptor("user", "ann"))).GetStatuses()[0]; st.GetLimitRemaining() != 999 {
		t.Errorf("a refused request was charged: %v", st)
	}
	if strings.Contains(s.log.String(), "geheim") {
		t.Errorf("values in the log: %s", s.log)
	}
}

func TestCurrentLimit(t *testing.T) {
	for _, c := range []struct {
		limit  uint64
		window time.Duration
		want   string
	}{
		{10, time.Second, "requests_per_unit:10 unit:SECOND"},
		{10, time.Minute, "requests_per_unit:10 unit:MINUTE"},
		{10, 90 * time.Second, "requests_per_unit:10 unit:SECOND unit_multiplier:{value:90}"},
		{10, 48 * time.Hour, "requests_per_unit:10 unit:DAY unit_multiplier:{value:2}"},
		{10, 14 * 24 * time.Hour, "requests_per_unit:10 unit:WEEK unit_multiplier:{value:2}"},
		{10, 100 * time.Millisecond, "requests_per_unit:100 unit:SECOND"},
		{1 << 40, time.Hour, "requests_per_unit:4294967295 unit:HOUR"},
	} {
		got := currentLimit(&limiter.Result{Limit: c.limit, Window: c.window}).String()
		if strings.ReplaceAll(got, "  ", " ") != c.want {
			t.Errorf("%d in %s: %s, want %s", c.limit, c.window, got, c.want)
		}
	}
}

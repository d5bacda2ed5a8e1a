package limiter

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// FuzzResult: whatever a query says, it is decided, or it is its own fault. What it is told fits together; what is
// refused or only asked takes nothing; and what is allowed takes what it is worth from a bucket that is found.
func FuzzResult(f *testing.F) {
	f.Add("", "10.0.0.7", "POST", "/api/1/x", "ann", "premium", "0a1b", "tenant", "acme", uint64(1), uint64(0), int64(0))
	f.Add("k", "", "", "", "", "", "", "", "", uint64(3), uint64(10), int64(time.Hour))
	f.Add("k\x00", "::ffff:192.0.2.1", "get", "http://h/%2e%2e//x?y", "\xff", "a:b", ":", "a", "", uint64(1<<63), uint64(1<<40), int64(-1))
	f.Add("", "198.51.100.9", "", "/", "", "", "", "", "", uint64(0), uint64(0), int64(0))
	l := newLimiter(f, newFakeClock(),
		policy.Policy{Name: "ip", Scope: policy.ScopePerIP, Limit: 100, Window: time.Hour},
		policy.Policy{Name: "user", Scope: policy.ScopePerUser, Limit: 50, Window: time.Hour, Algorithm: policy.AlgorithmSlidingWindow},
		policy.Policy{Name: "key", Scope: policy.ScopePerAPIKey, Limit: 20, Window: time.Minute, Algorithm: policy.AlgorithmFixedWindow},
		policy.Policy{Name: "path", Scope: policy.ScopePerEndpoint, Limit: 10, Window: time.Hour, Match: policy.Match{Endpoints: []string{"/api/{id}/x", "/static/*"}}},
		policy.Policy{Name: "mixed", Scope: policy.ScopeCustom, Key: "{user}:{metadata.tenant}:{ip}", Limit: 9, Window: time.Hour},
		policy.Policy{Name: "queue", Scope: policy.ScopeGlobal, Limit: 1000, Window: time.Second, Algorithm: policy.AlgorithmLeakyBucket, Match: policy.Match{Methods: []string{"POST"}}},
		policy.Policy{Name: "flight", Scope: policy.ScopePerUser, Limit: 30, Window: time.Minute, Algorithm: policy.AlgorithmConcurrency},
		policy.Policy{Name: "shadow", Scope: policy.ScopeGlobal, Limit: 1, Window: time.Hour, Mode: policy.ModeShadow},
	)
	doc := l.Document()
	doc.Deny = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	if err := l.Replace(doc); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, ip, method, endpoint, user, role, apiKey, name, value string, hits, limit uint64, window int64) {
		q := Query{Key: key, Hits: hits, Limit: limit, Window: time.Duration(window)}
		if limit == 0 {
			address, _ := netip.ParseAddr(ip)
			q.Request = &RequestContext{ClientIP: address, Method: method, Endpoint: endpoint, UserID: user, UserRole: role, APIKey: apiKey}
			if name != "" {
				q.Request.Metadata = map[string]string{name: value}
			}
		}
		ask := q
		ask.Hits = 0
		before, err := l.Check(t.Context(), ask)
		if err != nil {
			wrong, ok := errors.AsType[*QueryError](err)
			if !ok || wrong.Field == "" || wrong.Problem == "" || wrong.Mend == "" || before.Policy != "" {
				t.Fatalf("%+v: %v and %+v", q, err, before)
			}
			if _, again := l.Check(t.Context(), q); again == nil {
				t.Fatalf("%+v: asked for no hits it is refused, and for %d it is not", q, hits)
			}
			return
		}
		res, err := l.Check(t.Context(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		defer l.Release(&res)
		checkFuzzed(t, q, &before, &res)
	})
}

func checkFuzzed(t *testing.T, q Query, before, res *Result) {
	t.Helper()
	switch {
	case res.Remaining > res.Burst || res.ResetAfter < 0 || res.Delay < 0 || res.RetryAfter < 0:
		t.Fatalf("%+v: %+v", q, res)
	case res.Allowed != (res.RetryAfter == 0):
		t.Fatalf("%+v: allowed is %v, and the wait %s", q, res.Allowed, res.RetryAfter)
	case res.Policy == "" && (res.Limit != 0 || !res.Allowed && res.List != policy.ListDeny):
		t.Fatalf("%+v: no policy, and %+v", q, res)
	case q.Limit == 0 || q.Hits == 0:
		return
	// A limit of its own has one bucket, whose figures can be held against one another.
	case res.Allowed && before.Remaining-res.Remaining != q.Hits, !res.Allowed && before.Remaining != res.Remaining:
		t.Fatalf("%+v: %d were left before, and %d after; allowed is %v", q, before.Remaining, res.Remaining, res.Allowed)
	case !res.Allowed && q.Hits <= before.Remaining:
		t.Fatalf("%+v: denied with %d left", q, before.Remaining)
	}
}

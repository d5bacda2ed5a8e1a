package limiter

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestNothingIsAllocated for a decision, admitted or denied.
func TestNothingIsAllocated(t *testing.T) {
	match := policy.Match{Endpoints: []string{"/api/*", "/v2/{x}"}, Methods: []string{"GET"}}
	policies := []policy.Policy{
		{Name: "user", Scope: policy.ScopePerUser, Limit: 50, Window: time.Hour},
		{Name: "address", Scope: policy.ScopePerIP, Limit: 50, Window: time.Hour, Algorithm: policy.AlgorithmSlidingWindow, Match: match},
		{Name: "custom", Scope: policy.ScopeCustom, Key: "{user}:{metadata.tenant}:{ip}", Limit: 50, Window: time.Hour, Algorithm: policy.AlgorithmFixedWindow,
			Match: policy.Match{Metadata: map[string]string{"tenant": "a*"}}},
		{Name: "endpoint", Scope: policy.ScopePerEndpoint, Limit: 50, Window: 10 * time.Second, Algorithm: policy.AlgorithmLeakyBucket, Match: match},
		{Name: "flight", Scope: policy.ScopePerUser, Limit: 50, Window: time.Hour, Algorithm: policy.AlgorithmConcurrency},
	}
	request := RequestContext{ClientIP: netip.MustParseAddr("2001:db8::7"), Method: "GET", Endpoint: "/api/things?x=1", UserID: "u",
		Metadata: map[string]string{"tenant": "acme"}}
	ctx := t.Context()
	for n := range len(policies) + 1 {
		l := newLimiterOf(t, Options{Entries: MinEntries}, policies[:n]...)
		denied := false
		// The first 50 are admitted, and those that follow are not.
		allocs := testing.AllocsPerRun(200, func() {
			r, err := l.CheckRequest(ctx, "k", &request)
			if err != nil {
				t.Fatal(err)
			}
			denied = !r.Allowed
		})
		if allocs != 0 || denied != (n > 0) {
			t.Errorf("%d policies: %v allocations, denied %v", n, allocs, denied)
		}
	}
	l := newLimiterOf(t, Options{Entries: MinEntries})
	if allocs := testing.AllocsPerRun(200, func() {
		if _, err := l.CheckRateLimit(ctx, "user:1", 100, time.Hour); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("CheckRateLimit: %v allocations", allocs)
	}
	rule, err := l.NewRule(policy.Policy{Name: "r", Limit: 10, Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	queries, results := []Query{{Rule: rule, Key: "a", Hits: 1}, {Rule: rule, Key: "b", Hits: 1}}, make([]Result, 2)
	if allocs := testing.AllocsPerRun(200, func() {
		if _, err := l.CheckAll(ctx, queries, results); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("CheckAll: %v allocations", allocs)
	}
}

// TestBadQueries: each says what is wrong and what to do, and costs no bucket anything.
func TestBadQueries(t *testing.T) {
	l := newLimiter(t, newFakeClock(), policy.Policy{Name: "all", Scope: policy.ScopeGlobal, Limit: 10, Window: time.Second})
	long, request := strings.Repeat("x", MaxKey+1), func(r RequestContext) Query { return Query{Request: &r, Hits: 1} }
	limit := func(key string, limit uint64, window time.Duration) Query {
		return Query{Key: key, Limit: limit, Window: window, Hits: 1}
	}
	many := map[string]string{}
	for i := range maxMetadata + 1 {
		many[fmt.Sprint(i)] = "v"
	}
	rule, err := l.NewRule(policy.Policy{Name: "r", Limit: 10, Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		query         Query
		field, phrase string
	}{
		{limit("", 1, 1), "key", "must not be empty; say whom"},
		{limit(long, 1, time.Second), "key", "has 1025 bytes; shorten it to at most 1024"},
		{limit("a\nb", 1, time.Second), "key", "control character at byte 1; remove it"},
		{limit("a\x7f", 1, time.Second), "key", "control character at byte 1"},
		{limit("k", 0, time.Second), "limit", "must be at least 1, got 0; set limit"},
		{limit("k", 1, 0), "window", "must be longer than 0"},
		{limit("k", 1, -time.Second), "window", "must be longer than 0"},
		{limit("k", 1, math.MaxInt64), "limit", "slower than the slowest rate, 1/day; raise limit"},
		{limit("k", 200_000, math.MaxInt64), "window", "is longer than 100d; shorten it"},
		{limit("k", math.MaxUint64, time.Second), "limit", "more than the kernel's arithmetic holds"},
		{limit("k", 1<<40, time.Second), "limit", "faster than the fastest rate"},
		{Query{Rule: rule, Key: long, Hits: 1}, "key", "has 1025 bytes"},
		{Query{Key: long, Request: &RequestContext{}, Hits: 1}, "key", "has 1025 bytes"},
		{request(RequestContext{Method: "GET\r"}), "context.method", "control character at byte 3"},
		{request(RequestContext{Endpoint: "/" + long}), "context.endpoint", "has 1026 bytes"},
		{request(RequestContext{UserID: "\x00"}), "context.user_id", "control character at byte 0"},
		{request(RequestContext{UserRole: long}), "context.user_role", "has 1025 bytes"},
		{request(RequestContext{APIKey: long}), "context.api_key", "has 1025 bytes"},
		{request(RequestContext{Metadata: many}), "context.metadata", "has 65 names; send at most 64"},
		{request(RequestContext{Metadata: map[string]string{"": "x"}}), "context.metadata", "a name must not be empty"},
		{request(RequestContext{Metadata: map[string]string{"a\n": "x"}}), "context.metadata", "a name has a control character at byte 1"},
		{request(RequestContext{Metadata: map[string]string{"a": long}}), `context.metadata["a"]`, "has 1025 bytes"},
	}
	for i, c := range cases {
		r, err := l.Check(t.Context(), c.query)
		var bad *QueryError
		if !errors.As(err, &bad) || !errors.Is(err, ErrQuery) || bad.Field != c.field || !strings.Contains(err.Error(), c.phrase) || r.Allowed {
			t.Errorf("%d: %+v, %v; want %s: %s", i, r, err, c.field, c.phrase)
		}
		if bad != nil && (len(bad.Error()) > 300 || strings.Contains(bad.Error(), long)) {
			t.Errorf("%d: a message of %d bytes", i, len(bad.Error()))
		}
		queries := []Query{{Request: &RequestContext{}, Hits: 1}, c.query}
		results := make([]Result, 2)
		if at, err := l.CheckAll(t.Context(), queries, results); at != 1 || !errors.Is(err, ErrQuery) || results[0].Allowed {
			t.Errorf("%d: among others: %d, %v, %+v", i, at, err, results)
		}
	}
	for _, call := range []func() error{
		func() error { _, err := l.CheckRequest(t.Context(), "k", nil); return err },
		func() error { _, err := l.CheckAll(t.Context(), nil, nil); return err },
		func() error { _, err := l.CheckAll(t.Context(), make([]Query, 2), make([]Result, 1)); return err },
		func() error {
			_, err := l.CheckAll(t.Context(), make([]Query, MaxQueries+1), make([]Result, MaxQueries+1))
			return err
		},
	} {
		if err := call(); !errors.Is(err, ErrQuery) {
			t.Error(err)
		}
	}
	if b, err := l.Bucket("all", GlobalKey); err != nil || b.Remaining != 10 {
		t.Errorf("somebody was charged: %+v, %v", b, err)
	}
	if s := l.Stats(t.Context()); s.TotalRequests != 0 || s.InvalidRequests != uint64(2*len(cases)+1) || s.Table.Claimed != 0 {
		t.Errorf("%+v", s)
	}
}

// FuzzCheck: nothing crashes, and what fails costs nothing.
func FuzzCheck(f *testing.F) {
	f.Add("k", "GET", "/a/%2e%2E//b?x", "u", "premium", "d", "tenant", "acme", []byte{10, 0, 0, 1}, uint64(1))
	f.Add("", "", "", "", "", "", "", "", []byte{}, uint64(0))
	f.Add("\x00", "\xff", "%", "{", "}", "//", "\n", "*", make([]byte, 16), uint64(math.MaxUint64))
	policies := []policy.Policy{
		{Name: "all", Scope: policy.ScopeGlobal, Priority: 100, Limit: 1 << 30, Window: time.Minute, Algorithm: policy.AlgorithmFixedWindow},
		{Name: "custom", Scope: policy.ScopeCustom, Key: "{user}{key}{endpoint}{metadata.tenant}{ip}", Limit: 5, Window: time.Second},
		{Name: "endpoint", Scope: policy.ScopePerEndpoint, Limit: 5, Window: time.Second, Match: policy.Match{Endpoints: []string{"/a/{x}/*", "/*"}}},
		{Name: "path", Scope: policy.ScopePerEndpoint, Limit: 5, Window: time.Second, Algorithm: policy.AlgorithmSlidingWindow},
		{Name: "metadata", Scope: policy.ScopePerUser, Limit: 5, Window: time.Second, Match: policy.Match{Metadata: map[string]string{"tenant": "*"}}},
		{Name: "queue", Scope: policy.ScopePerIP, Limit: 5, Window: time.Second, Algorithm: policy.AlgorithmLeakyBucket},
	}
	clock := newFakeClock()
	l := newLimiter(f, clock, policies...)
	f.Fuzz(func(t *testing.T, key, method, endpoint, user, role, apiKey, name, value string, ip []byte, hits uint64) {
		before, err := l.Bucket("all", GlobalKey)
		if err != nil {
			t.Fatal(err)
		}
		request := RequestContext{Method: method, Endpoint: endpoint, UserID: user, UserRole: role, APIKey: apiKey, Metadata: map[string]string{name: value}}
		request.ClientIP, _ = netip.AddrFromSlice(ip)
		saved := request
		saved.Metadata = maps.Clone(request.Metadata)
		r, err := l.Check(t.Context(), Query{Key: key, Request: &request, Hits: hits})
		after, _ := l.Bucket("all", GlobalKey)
		if charged := err == nil && r.Allowed && hits > 0; (before.Remaining != after.Remaining) != charged {
			t.Errorf("%v %+v: %d, then %d", err, r, before.Remaining, after.Remaining)
		}
		if err != nil && !errors.Is(err, ErrQuery) {
			t.Error(err)
		}
		if fmt.Sprint(request) != fmt.Sprint(saved) {
			t.Errorf("the request was changed: %v", request)
		}
		clock.advance(10 * time.Millisecond)
	})
}

// TestPlain: eight bytes at a time are as one by one.
func TestPlain(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				text := []byte(strings.Repeat("é~ \x80", 8)[:length])
				text[at] = byte(c)
				if problem, _ := textFault(string(text), mayBeEmpty); plain(string(text)) != (problem == "") {
					t.Fatalf("%q", text)
				}
			}
		}
	}
	if !plain(strings.Repeat("x", MaxKey)) || plain(strings.Repeat("x", MaxKey+1)) {
		t.Error("length")
	}
}

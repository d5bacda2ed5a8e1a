package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
)

func TestFigures(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, threePolicies)
	r.check(t, `{"key":"k","limit":1,"window":"1h"}`)
	r.post(t, "/v1/check", `{"key":"k","limit":1,"window":"1h"}`, 429)
	r.check(t, `{"context":{"user_id":"ann"}}`)
	for path, want := range map[string]map[string]any{
		"/v1/health": {"redis_configured": false, "redis_available": false, "consecutive_failures": 0.0, "total_requests": 3.0, "active_policies": 4.0},
		"/v1/stats": {
			"total_requests": 3.0, "redis_requests": 0.0, "fallback_requests": 0.0, "memory_requests": 3.0,
			"allowed_requests": 2.0, "exceeded_requests": 1.0, "active_policies": 4.0,
		},
	} {
		answer, body := r.do(t, "GET", path)
		var got map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil || answer.StatusCode != 200 {
			t.Fatalf("%s: %d %s: %v", path, answer.StatusCode, body, err)
		}
		for field, value := range want {
			if got[field] != value {
				t.Errorf("%s: %s is %v, want %v", path, field, got[field], value)
			}
		}
		if latency, ok := got["average_latency_ms"].(float64); !ok || latency <= 0 {
			t.Errorf("%s: average_latency_ms is %v, want more than 0", path, got["average_latency_ms"])
		}
		if answer, _ := r.do(t, "POST", path); answer.StatusCode != 405 {
			t.Errorf("POST %s: %d, want 405", path, answer.StatusCode)
		}
	}
}

// slowFigures sees how many ask for statistics at once.
type slowFigures struct {
	Figures
	now, most atomic.Int64
}

func (s *slowFigures) Stats(ctx context.Context) limiter.Stats {
	if n := s.now.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	defer s.now.Add(-1)
	return s.Figures.Stats(ctx)
}

// To count is work: one at a time, however many ask.
func TestStatsOneAtATime(t *testing.T) {
	t.Parallel()
	l, err := limiter.New(limiter.Options{}) // a table that takes a while
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowFigures{Figures: l}
	r := startWith(t, Options{Figures: slow})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, path := range []string{"/v1/stats", "/v1/health"} {
				answer, err := r.client.Get(r.url + path)
				if err != nil {
					t.Error(err)
					return
				}
				answer.Body.Close()
			}
		})
	}
	all.Wait()
	if slow.most.Load() != 1 {
		t.Errorf("%d at once, want 1", slow.most.Load())
	}
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, `{"policies":[
		{"name":"user","scope":"per_user","limit":2,"window":"1h"},
		{"name":"key","scope":"per_api_key","limit":2,"window":"1h"},
		{"name":"path","scope":"per_endpoint","limit":2,"window":"1h"},
		{"name":"all","scope":"global","layer":"l7","limit":2,"window":"1h"}]}`)
	r.check(t, `{"context":{"user_id":"ann/../b","api_key":"secret","endpoint":"/api/v2/x"}}`)
	for _, c := range []struct{ policy, path, key string }{
		{"user", "user/ann%2F..%2Fb", "ann/../b"},
		{"key", "key/" + identity.HashAPIKey("secret"), identity.HashAPIKey("secret")},
		{"path", "path/%2Fapi%2Fv2%2Fx", "/api/v2/x"},
		{"all", "all/-", "-"},
	} {
		for _, step := range []struct {
			method    string
			status    int
			remaining uint64
		}{{"GET", 200, 1}, {"DELETE", 204, 0}, {"GET", 200, 2}} {
			answer, body := r.do(t, step.method, "/v1/buckets/"+c.path)
			if answer.StatusCode != step.status {
				t.Fatalf("%s %s: %d %s, want %d", step.method, c.path, answer.StatusCode, body, step.status)
			}
			var s limiter.BucketState
			if step.method == "GET" && json.Unmarshal([]byte(body), &s) != nil {
				t.Fatalf("%s: %s", c.path, body)
			}
			if step.method == "GET" && (s.Policy != c.policy || s.Key != c.key || s.Burst != 2 || s.Remaining != step.remaining) {
				t.Errorf("%s: %s, want %d left of 2 for %s", c.path, body, step.remaining, c.key)
			}
		}
	}
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"nobody/x": {404, "no such policy"},
		"all/x":    {400, "one bucket for all"},
	} {
		answer, body := r.do(t, "GET", "/v1/buckets/"+path)
		wantProblem(t, path, answer, body, want.status, want.text)
	}
}

// Who may see and fill a bucket over TCP: who shows the token. The calls that requests face are for all.
func TestAccessToTheLimiter(t *testing.T) {
	t.Parallel()
	token, err := ReadToken(tokenFile(t, testToken, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	l := newLimiter(t, perUser)
	r := startWith(t, Options{Checker: l, Identity: newResolver(t), Figures: l, Buckets: l, Token: func() Token { return token }})
	with := http.Header{"Authorization": {"Bearer " + testToken}}
	for _, c := range []struct {
		method, path, body string
		without, with      int
	}{
		{"POST", "/v1/check", `{"context":{}}`, 200, 200},
		{"GET", "/v1/auth", "", 200, 200},
		{"GET", "/v1/health", "", 200, 200},
		{"GET", "/v1/stats", "", 200, 200},
		{"GET", "/v1/buckets/user/ann", "", 401, 200},
		{"DELETE", "/v1/buckets/user/ann", "", 401, 204},
	} {
		if answer, body := r.send(t, c.method, c.path, c.body, nil); answer.StatusCode != c.without {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, answer.StatusCode, body, c.without)
		}
		if answer, body := r.send(t, c.method, c.path, c.body, with); answer.StatusCode != c.with {
			t.Errorf("%s %s with the token: %d %s, want %d", c.method, c.path, answer.StatusCode, body, c.with)
		}
	}
}

// What nobody answers is not there.
func TestWithoutLimiter(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Checker: newLimiter(t, noPolicies)}} {
		r := startWith(t, o)
		paths := []string{"GET /v1/auth", "GET /v1/health", "GET /v1/stats", "GET /v1/buckets/a/b"}
		if o.Checker == nil {
			paths = append(paths, "POST /v1/check", "POST /v1/release")
		}
		for _, one := range paths {
			method, path, _ := strings.Cut(one, " ")
			if answer, body := r.do(t, method, path); answer.StatusCode != 404 {
				t.Errorf("%s: %d %s, want 404", one, answer.StatusCode, body)
			}
		}
	}
}

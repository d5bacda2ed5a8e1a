package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
)

// newLimiter has a document in force, in the words of PUT /v1/policies.
func newLimiter(t testing.TB, document string) *limiter.Limiter {
	t.Helper()
	return newLimiterAt(t, document, nil)
}

func newLimiterAt(t testing.TB, document string, clock func() limiter.Instant) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(limiter.Options{Entries: limiter.MinEntries, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	var d policy.Document
	if err := json.Unmarshal([]byte(document), &d); err != nil {
		t.Fatal(err)
	}
	if err := l.Replace(d); err != nil {
		t.Fatal(err)
	}
	return l
}

// newResolver trusts whoever asks from this machine, as weir does whose proxy runs beside it.
func newResolver(t testing.TB) *identity.Resolver {
	t.Helper()
	o := identity.DefaultOptions()
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	r, err := identity.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// startLimiter serves a limiter.
func startLimiter(t *testing.T, document string) (*running, *limiter.Limiter) {
	t.Helper()
	l := newLimiter(t, document)
	return startWith(t, Options{Local: true, Checker: l, Identity: newResolver(t), Figures: l, Buckets: l}), l
}

const noPolicies = `{"policies":[]}`

// post asks, and holds the status against what is wanted.
func (r *running) post(t *testing.T, path, body string, status int) (*http.Response, string) {
	t.Helper()
	answer, text := r.send(t, "POST", path, body, nil)
	if answer.StatusCode != status {
		t.Errorf("POST %s %s: %d %s, want %d", path, body, answer.StatusCode, text, status)
	}
	return answer, text
}

// check asks what is to be allowed.
func (r *running) check(t *testing.T, body string) CheckAnswer {
	t.Helper()
	_, text := r.post(t, "/v1/check", body, 200)
	var a CheckAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("%s: %v: %s", body, err, text)
	}
	return a
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, noPolicies)
	const body = `{"key":"user:123","limit":3,"window":"1h"}`
	begun := time.Now()
	for left := range 3 {
		a := r.check(t, body)
		reset := time.Duration(left+1) * 20 * time.Minute // a token is due every 20 minutes
		if early, late := begun.Add(reset).Unix(), time.Now().Add(reset+time.Second).Unix(); a.Reset < early || a.Reset > late {
			t.Errorf("reset %d, want %d to %d", a.Reset, early, late)
		}
		a.Reset = 0
		want := CheckAnswer{Allowed: true, Limit: 3, Remaining: uint64(2 - left), Policy: "request", WindowSeconds: 3600}
		if diff := cmp.Diff(want, a); diff != "" {
			t.Errorf("answer %d (-want +got):\n%s", left, diff)
		}
	}
	answer, text := r.post(t, "/v1/check", body, 429)
	var denied middleware.ErrorBody
	if err := json.Unmarshal([]byte(text), &denied); err != nil {
		t.Fatal(err)
	}
	d := denied.Error.Details
	if denied.Error.Code != middleware.CodeExceeded || d.Limit != 3 || d.WindowSeconds != 3600 || d.RetryAfterSeconds == 0 || d.RetryAfterSeconds > 1200 {
		t.Errorf("denied: %s", text)
	}
	if got := answer.Header.Get("Retry-After"); got != strconv.FormatUint(d.RetryAfterSeconds, 10) {
		t.Errorf("Retry-After %q, want that of the body: %s", got, text)
	}
	for name, want := range map[string]string{"X-RateLimit-Limit": "3", "X-RateLimit-Remaining": "0", "X-RateLimit-Policy": "request", "Content-Type": "application/json"} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// Other ways to write the same window are the same bucket; another key is not.
	r.post(t, "/v1/check", `{"key":"user:123","limit":3,"window":3600}`, 429)
	r.post(t, "/v1/check", `{"key":"user:123","limit":3,"window_seconds":3600}`, 429)
	r.post(t, "/v1/check", `{"key":"user:124","limit":3,"window":"60m","hits":3}`, 200)
	r.post(t, "/v1/check", `{"key":"user:124","limit":3,"window":"1h"}`, 429)
}

func TestCheckExactly(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, noPolicies)
	var allowed, denied atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				answer, err := r.client.Post(r.url+"/v1/check", "application/json", strings.NewReader(`{"key":"k","limit":50,"window":"30d"}`))
				if err != nil {
					t.Error(err)
					return
				}
				answer.Body.Close()
				switch answer.StatusCode {
				case 200:
					allowed.Add(1)
				case 429:
					denied.Add(1)
				}
			}
		})
	}
	all.Wait()
	if allowed.Load() != 50 || denied.Load() != 150 {
		t.Errorf("%d were allowed and %d denied, want 50 and 150", allowed.Load(), denied.Load())
	}
}

// hits 0 asks how things are, and is answered as one hit would be.
func TestCheckPeeks(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, noPolicies)
	for range 3 {
		if a := r.check(t, `{"key":"k","limit":2,"window":"1h","hits":0}`); a.Remaining != 2 {
			t.Errorf("remaining %d, want 2", a.Remaining)
		}
	}
	r.check(t, `{"key":"k","limit":2,"window":"1h","hits":2}`)
	r.post(t, "/v1/check", `{"key":"k","limit":2,"window":"1h","hits":0}`, 429)
}

const threePolicies = `{"policies":[
	{"name":"key","scope":"per_api_key","limit":2,"window":"1h"},
	{"name":"user","scope":"per_user","limit":3,"window":"1h","headers":{"X-Tier":"free"}},
	{"name":"client","scope":"per_ip","layer":"l7","limit":5,"window":"1h"},
	{"name":"trial","scope":"per_user","limit":1,"window":"1h","mode":"shadow"}
],"allow":["192.0.2.0/24"],"deny":["198.51.100.0/24"]}`

func TestCheckContext(t *testing.T) {
	t.Parallel()
	r, l := startLimiter(t, threePolicies)
	const body = `{"context":{"client_ip":"203.0.113.7","method":"post","endpoint":"/api","user_id":"ann","user_role":"premium",
		"api_key":"secret-key","request_id":"7c9e6679-7425-40de-944b-e07fc1f90ae7","metadata":{"tenant":"acme"}}}`
	if a := r.check(t, body); a.Policy != "key" || a.Remaining != 1 || a.Shadow != "" {
		t.Errorf("first: %+v, want key with 1 left", a)
	}
	if a := r.check(t, body); a.Policy != "key" || a.Remaining != 0 || a.Shadow != "trial" {
		t.Errorf("second: %+v, want key with 0 left, and that trial would have denied", a)
	}
	answer, text := r.post(t, "/v1/check", body, 429)
	if got := answer.Header.Get("X-RateLimit-Policy"); got != "key" || !strings.Contains(text, `"policy":"key"`) {
		t.Errorf("denied by %q: %s, want key", got, text)
	}
	// The bucket is that of the digest; and what was denied cost no other policy anything.
	for _, c := range []struct {
		policy, key string
		left        uint64
	}{{"key", identity.HashAPIKey("secret-key"), 0}, {"key", "secret-key", 2}, {"user", "ann", 1}, {"client", "203.0.113.7", 3}} {
		if s, err := l.Bucket(c.policy, c.key); err != nil || s.Remaining != c.left {
			t.Errorf("%s of policy %s: %d left, %v, want %d", c.key, c.policy, s.Remaining, err, c.left)
		}
	}
	// The key stands for the client without an address, and IPv4 in IPv6 is IPv4.
	if a := r.check(t, `{"context":{"client_ip":"::ffff:203.0.113.7"}}`); a.Policy != "client" || a.Remaining != 2 {
		t.Errorf("%+v, want the bucket of 203.0.113.7", a)
	}
	if a := r.check(t, `{"context":{},"key":"somebody"}`); a.Policy != "client" || a.Remaining != 4 {
		t.Errorf("%+v, want policy client", a)
	}
	if a := r.check(t, `{"context":{"endpoint":"/nobody"}}`); !cmp.Equal(a, CheckAnswer{Allowed: true}) {
		t.Errorf("%+v, want allowed by nobody", a)
	}
}

func TestCheckLists(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, threePolicies)
	for range 7 {
		if a := r.check(t, `{"context":{"client_ip":"192.0.2.1"}}`); a.List != policy.ListAllow || a.Policy != "" {
			t.Fatalf("%+v, want list allow", a)
		}
	}
	answer, text := r.post(t, "/v1/check", `{"context":{"client_ip":"198.51.100.1"}}`, 403)
	if got := answer.Header.Get("Retry-After"); got != "" || !strings.Contains(text, middleware.CodeDenied) {
		t.Errorf("Retry-After %q, body %s; want none and %s", got, text, middleware.CodeDenied)
	}
}

func TestCheckAnswersInTheDialect(t *testing.T) {
	t.Parallel()
	for dialect, want := range map[middleware.Dialect]struct{ x, ietf string }{
		middleware.XRateLimit: {"1", ""},
		middleware.IETF:       {"", `"user";q=1;w=3600`},
		middleware.Both:       {"1", `"user";q=1;w=3600`},
		middleware.Off:        {"", ""},
	} {
		l := newLimiter(t, `{"policies":[{"name":"user","scope":"per_user","limit":1,"window":"1h"}]}`)
		r := startWith(t, Options{Checker: l, Identity: newResolver(t), Headers: func() middleware.Dialect { return dialect }})
		for _, status := range []int{200, 429} {
			answer, _ := r.post(t, "/v1/check", `{"context":{"user_id":"ann"}}`, status)
			if x, ietf := answer.Header.Get("X-RateLimit-Limit"), answer.Header.Get("RateLimit-Policy"); x != want.x || ietf != want.ietf {
				t.Errorf("%s, status %d: %q and %q, want %+v", dialect, status, x, ietf, want)
			}
			if has := answer.Header.Get("Retry-After") != ""; has != (status == 429) {
				t.Errorf("%s, status %d: Retry-After is there: %v", dialect, status, has)
			}
		}
		answer, _ := r.send(t, "GET", "/v1/auth", "", http.Header{"X-User": {"ann"}})
		if x, ietf := answer.Header.Get("X-RateLimit-Limit"), answer.Header.Get("RateLimit-Policy"); answer.StatusCode != 429 || x != want.x || ietf != want.ietf {
			t.Errorf("%s: auth: %d, %q and %q, want %+v", dialect, answer.StatusCode, x, ietf, want)
		}
	}
}

func TestCheckDeniedAsProblem(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, noPolicies)
	const body = `{"key":"k","limit":1,"window":"1h"}`
	r.check(t, body)
	answer, text := r.send(t, "POST", "/v1/check", body, http.Header{"Accept": {"application/problem+json"}})
	if got := answer.Header.Get("Content-Type"); answer.StatusCode != 429 || got != "application/problem+json" || !strings.Contains(text, `"status":429`) {
		t.Errorf("%d %s: %s, want a problem", answer.StatusCode, got, text)
	}
}

func TestLease(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, `{"policies":[{"name":"jobs","scope":"per_user","algorithm":"concurrency","limit":1,"window":"1h"}]}`)
	const body = `{"context":{"user_id":"ann"}}`
	first := r.check(t, body)
	if first.Lease == "" {
		t.Fatalf("%+v, want a lease", first)
	}
	r.post(t, "/v1/check", body, 429)
	if _, text := r.post(t, "/v1/release", `{"lease":"`+first.Lease+`"}`, 204); text != "" {
		t.Errorf("release answers %q, want nothing", text)
	}
	second := r.check(t, body)
	for _, c := range []struct{ body, want string }{
		{`{"lease":"` + first.Lease + `"}`, "released before"},
		{`{"lease":"` + second.Lease + `AAAA"}`, "lease"},
		{`{"lease":"x"}`, "is no lease"},
		{`{"lease":""}`, "is missing"},
		{`{}`, "is missing"},
		{`{"lease":1}`, "want a text"},
		{`{"leas":"x"}`, "unknown field"},
		{`[]`, "want an object"},
		{``, "empty"},
	} {
		answer, text := r.post(t, "/v1/release", c.body, 400)
		wantProblem(t, c.body, answer, text, 400, c.want)
	}
	r.post(t, "/v1/check", body, 429) // none of these has released the second
}

// brokenChecker fails by itself, which the one in memory does not.
type brokenChecker struct{ Checker }

var errBroken = errors.New("the store is away")

func (brokenChecker) Check(context.Context, limiter.Query) (limiter.Result, error) {
	return limiter.Result{}, errBroken
}
func (brokenChecker) ReleaseToken(string) error { return fmt.Errorf("release: %w", errBroken) }

// A limiter that fails is told to those who ask, and takes no site down. The log has it once.
func TestLimiterFails(t *testing.T) {
	t.Parallel()
	r := startWith(t, Options{Checker: brokenChecker{}, Identity: newResolver(t)})
	for range 3 {
		answer, text := r.post(t, "/v1/check", `{"key":"secret","limit":1,"window":"1h"}`, 503)
		wantProblem(t, "check", answer, text, 503, "the limiter failed")
		answer, text = r.post(t, "/v1/release", `{"lease":"x"}`, 503)
		wantProblem(t, "release", answer, text, 503, "the limiter failed")
		for _, path := range []string{"/v1/auth", "/v1/auth?deny=403"} {
			if answer, text := r.do(t, "GET", path); answer.StatusCode != 200 || text != "" || answer.Header.Get("X-RateLimit-Status") != "503" {
				t.Errorf("%s: %d %s, headers %v; want it to pass", path, answer.StatusCode, text, answer.Header)
			}
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.log.String(); strings.Count(log, errBroken.Error()) != 1 || strings.Contains(log, "secret") || strings.Contains(log, "127.0.0.1") {
		t.Errorf("log %q, want the failure once and nothing of the request", log)
	}
}

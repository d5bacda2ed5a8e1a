package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
)

const perUser = `{"policies":[
	{"name":"user","scope":"per_user","limit":2,"window":"1h"},
	{"name":"posts","scope":"per_endpoint","limit":1,"window":"1h","priority":9,"match":{"methods":["POST"],"endpoints":["/api/*"]}}
],"deny":["198.51.100.0/24"]}`

func TestAuth(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, perUser)
	user := func(name string) http.Header { return http.Header{"X-User": {name}} }
	theirs := func(name, target string) http.Header {
		return http.Header{"X-User": {name}, "X-Forwarded-Uri": {target}}
	}
	for _, c := range []struct {
		what, method, path string
		header             http.Header
		status             int
		policy, told       string // X-RateLimit-Policy and -Status
	}{
		{"nobody's business", "GET", "/v1/auth", nil, 200, "", ""},
		{"first", "GET", "/v1/auth", user("ann"), 200, "user", ""},
		{"any method", "PURGE", "/v1/auth", user("ann"), 200, "user", ""},
		{"over the limit", "POST", "/v1/auth", user("ann"), 429, "user", ""},
		{"over the limit, for nginx", "GET", "/v1/auth?deny=403", user("ann"), 403, "user", "429"},
		{"over the limit, as by default", "HEAD", "/v1/auth?deny=429", user("ann"), 429, "user", ""},
		{"another", "HEAD", "/v1/auth?deny=403", user("bob"), 200, "user", ""},
		{"worth two", "GET", "/v1/auth?hits=2", user("cat"), 200, "user", ""},
		{"worth two, again", "GET", "/v1/auth?hits=2&deny=403", user("cat"), 403, "user", "429"},
		{"peeks", "GET", "/v1/auth?hits=0", user("dan"), 200, "user", ""},
		{"a client that would peek, by Caddy's forward_auth", "GET", "/v1/auth?hits=0", theirs("eve", "/x?hits=0"), 200, "user", ""},
		{"and again, in vain", "GET", "/v1/auth?hits=0", theirs("eve", "/x?hits=0"), 200, "user", ""},
		{"and is over its limit", "GET", "/v1/auth?hits=0", theirs("eve", "/x?hits=0"), 429, "user", ""},
		{"a client's own query", "GET", "/v1/auth?q=1&deny=404", theirs("fay", "/x?q=1&deny=404"), 200, "user", ""},
		{"nginx, and a client that says the same", "GET", "/v1/auth?deny=403", theirs("eve", "/x?deny=403"), 403, "user", "429"},
		{"denied by the list", "GET", "/v1/auth", http.Header{"X-Forwarded-For": {"198.51.100.1"}}, 403, "", ""},
		{"denied by the list, for nginx", "GET", "/v1/auth?deny=403", http.Header{"X-Forwarded-For": {"198.51.100.1"}}, 403, "", "403"},
		{"Traefik's words", "GET", "/v1/auth", http.Header{"X-Forwarded-Method": {"POST"}, "X-Forwarded-Uri": {"/api/a?b=c"}}, 200, "posts", ""},
		{"nginx' words", "GET", "/v1/auth?deny=403", http.Header{"X-Original-Method": {"POST"}, "X-Original-Uri": {"/api/b"}}, 403, "posts", "429"},
	} {
		answer, body := r.send(t, c.method, c.path, "", c.header)
		h := answer.Header
		if answer.StatusCode != c.status || h.Get("X-RateLimit-Policy") != c.policy || h.Get("X-RateLimit-Status") != c.told {
			t.Errorf("%s: %d, headers %v, %s; want %d, policy %q, status %q", c.what, answer.StatusCode, h, body, c.status, c.policy, c.told)
		}
		switch {
		case c.status == 200:
			if body != "" || c.method != "HEAD" && h.Get("Content-Length") != "0" || h.Get("Retry-After") != "" {
				t.Errorf("%s: body %q, headers %v; want nothing", c.what, body, h)
			}
		case c.policy != "" && (h.Get("Retry-After") == "" || c.method != "HEAD" && !strings.Contains(body, "RATE_LIMIT_EXCEEDED")):
			t.Errorf("%s: body %q, headers %v; want an error and Retry-After", c.what, body, h)
		}
		if told := h.Get("X-RateLimit-Body"); c.told == "" && told != "" || c.told != "" && told+"\n" != body {
			t.Errorf("%s: X-RateLimit-Body %q, body %q", c.what, told, body)
		}
	}
}

func TestBadAuth(t *testing.T) {
	t.Parallel()
	r, l := startLimiter(t, perUser)
	ann := http.Header{"X-User": {"ann"}}
	long := http.Header{"X-User": {"ann"}, "X-Original-Uri": {"/" + strings.Repeat("k", limiter.MaxKey)}}
	for _, c := range []struct {
		path   string
		header http.Header
		status int
		told   string
		want   string
	}{
		{"/v1/auth?deny=404", ann, 400, "", "want 403 or 429"},
		{"/v1/auth?Deny=403", ann, 400, "", "unknown parameter"},
		{"/v1/auth?" + strings.Repeat("%80", 61), ann, 400, "", "unknown parameter"}, // bytes that begin no character
		{"/v1/auth?hits=x", ann, 400, "", "want a whole number"},
		{"/v1/auth?hits=1&hits=2", ann, 400, "", "set again"},
		{"/v1/auth?hits=%zz", ann, 400, "", "the query of the URL"},
		{"/v1/auth?hits=3", ann, 400, "", "a full bucket of policy user holds 2"},
		{"/v1/auth?hits=3&deny=403", ann, 403, "400", "a full bucket of policy user holds 2"},
		{"/v1/auth", long, 400, "", "path"},
		{"/v1/auth?deny=403", long, 403, "400", "path"},
	} {
		answer, body := r.send(t, "GET", c.path, "", c.header)
		wantProblem(t, c.path, answer, body, c.status, c.want)
		if got := answer.Header.Get("X-RateLimit-Status"); got != c.told {
			t.Errorf("%s: X-RateLimit-Status %q, want %q", c.path, got, c.told)
		}
		if strings.Contains(body, "kkkk") {
			t.Errorf("%s: the answer repeats what was sent: %s", c.path, body)
		}
	}
	if s, err := l.Bucket("user", "ann"); err != nil || s.Remaining != 2 {
		t.Errorf("%+v, %v: want nothing charged", s, err)
	}
	// What is behind the path is no part of the call: a proxy that appends its own would be judged by no path.
	for _, path := range []string{"/v1/auth/", "/v1/auth/api/v2"} {
		if answer, body := r.do(t, "GET", path); answer.StatusCode != 404 {
			t.Errorf("%s: %d %s, want 404", path, answer.StatusCode, body)
		}
	}
}

// delayed is a limiter that tells every request to wait.
type delayed struct {
	*limiter.Limiter
	delay time.Duration
}

func (d delayed) Check(context.Context, limiter.Query) (limiter.Result, error) {
	return limiter.Result{Allowed: true, Policy: "slow", Limit: 1, Window: time.Minute, Burst: 9, Delay: d.delay}, nil
}

const leaky = `{"policies":[{"name":"slow","scope":"per_user","algorithm":"leaky_bucket","limit":10,"window":"1s","burst":5}]}`

// A leaky bucket lets requests out one by one.
func TestAuthHoldsBack(t *testing.T) {
	t.Parallel()
	r, _ := startLimiter(t, leaky)
	begun := time.Now()
	for i := range 3 {
		if answer, body := r.send(t, "GET", "/v1/auth", "", http.Header{"X-User": {"ann"}}); answer.StatusCode != 200 {
			t.Errorf("request %d: %d %s", i, answer.StatusCode, body)
		}
	}
	if took := time.Since(begun); took < 199*time.Millisecond {
		t.Errorf("three requests took %v, want 200 ms at 10 per second", took)
	}
	// The same by /v1/check is told, and not held back.
	a := r.check(t, `{"context":{"user_id":"bob"},"hits":1}`)
	b := r.check(t, `{"context":{"user_id":"bob"},"hits":1}`)
	if a.Delay != 0 || b.Delay <= 0 || b.Delay > 0.1 {
		t.Errorf("delays %v and %v, want none and at most 0.1 s", a.Delay, b.Delay)
	}
}

// Where too many wait already, nobody else does.
func TestAuthHoldsBackSoMany(t *testing.T) {
	t.Parallel()
	l := newLimiter(t, leaky)
	c := &checks{checker: l, identity: newResolver(t), dialect: func() middleware.Dialect { return middleware.Off }}
	c.held.n.Store(maxHeld)
	for i, want := range []int{200, 429} {
		w := httptest.NewRecorder()
		request := httptest.NewRequest("GET", "/v1/auth", nil)
		request.RemoteAddr = "127.0.0.1:1"
		request.Header.Set("X-User", "ann")
		c.auth(w, request)
		if w.Code != want {
			t.Errorf("request %d: %d %s, want %d", i, w.Code, w.Body, want)
		}
	}
}

// testOptions fills in what every server needs.
func testOptions(t *testing.T, o Options) Options {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listener, o.Readiness, o.Log, o.Metrics = l, &fakeReadiness{}, slog.New(slog.DiscardHandler), http.NotFoundHandler()
	return o
}

// run serves until the test ends.
func run(t *testing.T, s *Server) (stop context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return cancel
}

// When the server is to stop, or the client goes away, nothing is held back any longer.
func TestHoldingBackEnds(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(conn net.Conn, stop context.CancelFunc){
		"the server stops":     func(_ net.Conn, stop context.CancelFunc) { stop() },
		"the client goes away": func(conn net.Conn, _ context.CancelFunc) { conn.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := delayed{newLimiter(t, noPolicies), maxDelay}
			s := New(testOptions(t, Options{Checker: d, Identity: newResolver(t)}))
			begun, ended := make(chan struct{}), make(chan struct{})
			served := s.http.Handler
			s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(begun)
				served.ServeHTTP(w, r)
				close(ended)
			})
			stop := run(t, s)
			conn := ask(t, s.listener.Addr().String())
			<-begun
			end(conn, stop)
			select {
			case <-ended:
			case <-time.After(maxDelay / 2):
				t.Error("the request is still held back")
			}
			if answer, err := io.ReadAll(conn); what == "the server stops" && (err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ")) {
				t.Errorf("answer %q, %v; want 200", answer, err)
			}
		})
	}
}

func ask(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "GET /v1/auth HTTP/1.1\r\nHost: weir\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// BenchmarkAuth is /v1/auth without a network.
func BenchmarkAuth(b *testing.B) {
	l := newLimiter(b, `{"policies":[{"name":"user","scope":"per_user","limit":100000000,"window":"1s"}]}`)
	h := routes(Options{Checker: l, Identity: newResolver(b), Readiness: &fakeReadiness{}, Metrics: http.NotFoundHandler()}, nil)
	request := httptest.NewRequest("GET", "/v1/auth", nil)
	request.RemoteAddr = "127.0.0.1:1"
	request.Header = http.Header{"X-User": {"ann"}, "X-Original-Uri": {"/api/v2/x"}, "X-Original-Method": {"GET"}, "X-Forwarded-For": {"203.0.113.7"}}
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: http.Header{}}
		h.ServeHTTP(w, request)
		if w.status != 0 {
			b.Fatal(w.status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

package middleware

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// ok is a handler that answers 200.
var ok = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })

func ask(h http.Handler, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/a/%7Eb?c=d", nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAllowedHasHeaders(t *testing.T) {
	s := &said{res: allowed()}
	w := ask(HTTP(s, HTTPOptions{Now: clock})(ok), nil)
	if w.Code != 200 || w.Body.String() != "hello" || w.Header().Get("X-RateLimit-Remaining") != "999" || w.Header().Get("X-RateLimit-Reset") != "1774008004" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if s.released != 1 {
		t.Errorf("released %d times", s.released)
	}
}

func TestDeniedStaysOut(t *testing.T) {
	s := &said{res: exceeded()}
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
	w := ask(HTTP(s, HTTPOptions{Dialect: IETF})(next), nil)
	if w.Code != 429 || w.Header().Get("Retry-After") != "300" || w.Header().Get("RateLimit") != `"api_v2";r=0;t=3600` || !strings.Contains(w.Body.String(), CodeExceeded) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestExtractsWhatEveryRequestHas(t *testing.T) {
	for peer, want := range map[string]netip.Addr{
		"192.0.2.1:1234":          netip.MustParseAddr("192.0.2.1"),
		"[::ffff:192.0.2.1]:1234": netip.MustParseAddr("192.0.2.1"),
		"[fe80::1%eth0]:1234":     netip.MustParseAddr("fe80::1"),
		"@":                       {}, // a unix socket
		"":                        {},
	} {
		s := &said{res: allowed()}
		ask(HTTP(s, HTTPOptions{})(ok), func(r *http.Request) { r.RemoteAddr = peer })
		rc := limiter.RequestContext{ClientIP: want, Method: "POST", Endpoint: "/a/%7Eb"}
		if diff := cmp.Diff([]limiter.RequestContext{rc}, s.contexts, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%q (-want +got):\n%s", peer, diff)
		}
		if s.asked[0].Hits != 1 || s.asked[0].Key != "" {
			t.Errorf("%+v", s.asked[0])
		}
	}
}

func TestOptionsOfARequest(t *testing.T) {
	s := &said{res: exceeded()}
	h := HTTP(s, HTTPOptions{
		Extract: func(r *http.Request) (string, limiter.RequestContext, error) {
			return "k", limiter.RequestContext{UserID: r.Header.Get("X-User")}, nil
		},
		Hits: func(r *http.Request) uint64 { return uint64(len(r.URL.RawQuery)) },
		Skip: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
		OnDenied: func(w http.ResponseWriter, r *http.Request, res *limiter.Result) {
			http.Error(w, "slow down, "+res.Policy, http.StatusServiceUnavailable)
		},
	})(ok)
	w := ask(h, func(r *http.Request) { r.Header.Set("X-User", "u") })
	if w.Code != 503 || w.Body.String() != "slow down, api_v2\n" || w.Header().Get("Retry-After") != "300" || w.Header().Get("X-RateLimit-Limit") != "1000" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if q := s.asked[0]; q.Key != "k" || q.Hits != 3 || s.contexts[0].UserID != "u" {
		t.Errorf("%+v %+v", q, s.contexts[0])
	}
	if w := ask(h, func(r *http.Request) { r.URL.Path = "/healthz" }); w.Code != 200 || len(w.Header()) != 1 || len(s.asked) != 1 {
		t.Errorf("skipped: %d %v", w.Code, w.Header())
	}
}

func TestUndecided(t *testing.T) {
	bad := &limiter.QueryError{Field: "hits", Problem: "is too much", Mend: "take less"}
	away := errors.New("secret store is away")
	for name, c := range map[string]struct {
		extract, check error
		closed         bool
		status         int
		detail         string
		failures       int
	}{
		"extraction":            {errors.New("no such tenant"), nil, false, 400, "no such tenant", 0},
		"query":                 {nil, fmt.Errorf("check: %w", bad), false, 400, "check: hits: is too much; take less", 0},
		"failure, open":         {nil, away, false, 200, "hello", 1},
		"failure, closed":       {nil, away, true, 503, "the rate limiter can't decide now; retry later", 1},
		"query, closed as well": {nil, bad, true, 400, "hits: is too much", 0},
	} {
		t.Run(name, func(t *testing.T) {
			failures := 0
			o := HTTPOptions{FailClosed: c.closed, OnFailure: func(_ *http.Request, err error) {
				if failures++; !errors.Is(err, away) {
					t.Error(err)
				}
			}}
			if c.extract != nil {
				o.Extract = func(*http.Request) (string, limiter.RequestContext, error) {
					return "", limiter.RequestContext{}, c.extract
				}
			}
			w := ask(HTTP(&said{err: c.check}, o)(ok), nil)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.detail) || failures != c.failures {
				t.Errorf("%d %s, %d failures", w.Code, w.Body, failures)
			}
			if c.status != 200 && (w.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(w.Body.String(), "secret")) {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
			var got error
			o.OnError = func(w http.ResponseWriter, _ *http.Request, err error) { got = err; w.WriteHeader(418) }
			cause := c.extract
			if cause == nil {
				cause = c.check
			}
			if w := ask(HTTP(&said{err: c.check}, o)(ok), nil); c.status != 200 && (w.Code != 418 || !errors.Is(got, cause)) {
				t.Errorf("OnError: %d, %v", w.Code, got)
			}
		})
	}
}

// TestClientGoneIsNotLetThrough: when the context ends a check, that is no failure of the limiter.
func TestClientGoneIsNotLetThrough(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := HTTPOptions{OnFailure: func(_ *http.Request, err error) { t.Error(err) }}
	r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
	w := httptest.NewRecorder()
	HTTP(&said{err: context.Canceled}, o)(ok).ServeHTTP(w, r)
	if w.Code != 503 {
		t.Errorf("%d", w.Code)
	}
}

func TestReleasesWhenTheHandlerEnds(t *testing.T) {
	s := &said{res: allowed()}
	during := -1
	h := HTTP(s, HTTPOptions{})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		during = s.released
		panic(http.ErrAbortHandler)
	}))
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("the panic is lost")
			}
		}()
		ask(h, nil)
	}()
	if during != 0 || s.released != 1 {
		t.Errorf("released %d times before the panic, %d after it", during, s.released)
	}
}

// TestDelay has one request before it in the queue of the real engine, which lets one through in three seconds.
func TestDelay(t *testing.T) {
	for name, c := range map[string]struct {
		longest, deadline, gone time.Duration // 0: there is none
		status                  int
		took                    time.Duration
		retry                   string
	}{
		"waits":                   {0, 0, 0, 200, 3 * time.Second, ""},
		"as long as it may":       {3 * time.Second, 0, 0, 200, 3 * time.Second, ""},
		"longer than it may":      {1 * time.Second, 0, 0, 429, 0, "2"},
		"never":                   {-1, 0, 0, 429, 0, "3"},
		"outlasts the deadline":   {0, 2 * time.Second, 0, 429, 0, "1"},
		"in time":                 {0, 4 * time.Second, 0, 200, 3 * time.Second, ""},
		"the client goes earlier": {0, 0, time.Second, 503, time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.deadline > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				h := HTTP(engine(t, policy.Policy{Name: "queue", Scope: policy.ScopeGlobal, Algorithm: policy.AlgorithmLeakyBucket,
					Limit: 20, Window: time.Minute, Burst: 10}), HTTPOptions{MaxDelay: c.longest})(ok)
				if w := ask(h, nil); w.Code != 200 {
					t.Fatalf("the first: %d", w.Code)
				}
				if c.gone > 0 {
					time.AfterFunc(c.gone, cancel)
				}
				start := time.Now()
				w := ask(h, func(r *http.Request) { *r = *r.WithContext(ctx) })
				if w.Code != c.status || time.Since(start).Round(time.Microsecond) != c.took || w.Header().Get("Retry-After") != c.retry {
					t.Errorf("%d after %s, %v", w.Code, time.Since(start), w.Header())
				}
			})
		})
	}
}

// TestResponseWriterIsPassedOn: with a real server, what is behind the middleware can flush, hijack and use
// sendfile.
func TestResponseWriterIsPassedOn(t *testing.T) {
	s := &said{res: allowed()}
	hijacked := make(chan int, 1)
	server := httptest.NewServer(HTTP(s, HTTPOptions{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, flushes := w.(http.Flusher)
		_, reads := w.(io.ReaderFrom)
		conn, buffer, err := w.(http.Hijacker).Hijack()
		if err != nil || !flushes || !reads {
			t.Errorf("%v, flushes %t, reads %t", err, flushes, reads)
			return
		}
		defer conn.Close()
		fmt.Fprintf(buffer, "HTTP/1.1 101 Switching Protocols\r\nX-RateLimit-Limit: %s\r\n\r\n", w.Header().Get("X-RateLimit-Limit"))
		_ = buffer.Flush()
		_, _ = io.Copy(conn, buffer) // echo until the client is done
		s.mu.Lock()
		defer s.mu.Unlock()
		hijacked <- s.released
	})))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != 101 || answer.Header.Get("X-RateLimit-Limit") != "1000" {
		t.Fatalf("%v: %+v", err, answer)
	}
	fmt.Fprint(conn, "echo\n")
	if line, err := in.ReadString('\n'); line != "echo\n" {
		t.Errorf("%q: %v", line, err)
	}
	conn.Close()
	if released := <-hijacked; released != 0 {
		t.Errorf("released %d times while the connection was in use", released)
	}
}

// quick is a Checker that costs nothing.
type quick struct{ res limiter.Result }

func (q *quick) Check(context.Context, limiter.Query) (limiter.Result, error) { return q.res, nil }
func (q *quick) Release(*limiter.Result)                                      {}

func BenchmarkHTTP(b *testing.B) {
	for name, res := range map[string]limiter.Result{"allowed": allowed(), "denied": exceeded()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			h := HTTP(&quick{res}, HTTPOptions{})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			r, w := httptest.NewRequest(http.MethodGet, "/a", nil), nowhere{http.Header{}}
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}

// TestStorm: of many requests at once over real connections, those get through that the policies admit.
func TestStorm(t *testing.T) {
	const limit, askers, each = 100, 16, 50
	l := engine(t, policy.Policy{Name: "all", Scope: policy.ScopeGlobal, Limit: limit, Window: time.Hour},
		policy.Policy{Name: "each", Scope: policy.ScopePerIP, Limit: limit + 1, Window: time.Hour})
	var through, denied atomic.Int64
	server := httptest.NewServer(HTTP(l, HTTPOptions{})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { through.Add(1) })))
	defer server.Close()
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for range each {
				answer, err := server.Client().Get(server.URL)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if answer.StatusCode == 429 {
					denied.Add(1)
				}
			}
		})
	}
	all.Wait()
	if through.Load() != limit || denied.Load() != askers*each-limit {
		t.Errorf("%d got through, %d were denied", through.Load(), denied.Load())
	}
}

// TestConcurrency: the engine counts a request until its handler is done, panic or not.
func TestConcurrency(t *testing.T) {
	l := engine(t, policy.Policy{Name: "few", Scope: policy.ScopeGlobal, Algorithm: policy.AlgorithmConcurrency, Limit: 1, Window: time.Hour})
	var h http.Handler
	h = HTTP(l, HTTPOptions{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Inner") == "" {
			if inner := ask(h, func(r *http.Request) { r.Header.Set("Inner", "1") }); inner.Code != 429 {
				t.Errorf("a second one in flight: %d", inner.Code)
			}
		}
		panic(http.ErrAbortHandler)
	}))
	for range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the handler was not called")
				}
			}()
			ask(h, nil)
		}()
	}
}

func BenchmarkHTTPAndEngine(b *testing.B) {
	l := engine(b, policy.Policy{Name: "each", Scope: policy.ScopePerIP, Limit: policy.MaxRequestRate, Window: time.Second})
	b.ReportAllocs()
	h := HTTP(l, HTTPOptions{})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r, w := httptest.NewRequest(http.MethodGet, "/a", nil), nowhere{http.Header{}}
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/policy"
)

func TestPassesOn(t *testing.T) {
	mw, _ := limit(t, policy.Policy{Limit: 10, Headers: map[string]string{"X-Tier": "gold"}})
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Seen", fmt.Sprintf("%s %s %s %s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-A"), body))
		w.Header()["X-Ratelimit-Limit"] = []string{"7", "8"} // the upstream limits, too
		w.Header().Set("X-Tier", "tin")
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "tea")
		w.Header().Set("X-Sum", "1")
	}, Options{Middleware: mw})
	answer, body := r.do(t, "PATCH", "/a%2Fb/%7Ec?d=%zz;e", strings.NewReader("some body"), http.Header{"X-A": {"b"}})
	host := strings.TrimPrefix(r.url, "http://")
	if got, want := answer.Header.Get("Seen"), "PATCH "+host+" /a%2Fb/%7Ec?d=%zz;e b some body"; got != want {
		t.Errorf("the upstream saw %s, want %s", got, want)
	}
	if answer.StatusCode != http.StatusTeapot || body != "tea" || answer.Trailer.Get("X-Sum") != "1" {
		t.Errorf("%d %s %v", answer.StatusCode, body, answer.Trailer)
	}
	for name, want := range map[string][]string{
		"X-Ratelimit-Limit": {"10"}, "X-Ratelimit-Remaining": {"9"}, "X-Ratelimit-Policy": {"all"}, "X-Tier": {"gold"},
	} {
		if got := answer.Header[name]; !cmp.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestStorm: exactly those requests reach the upstream that the policy admits.
func TestStorm(t *testing.T) {
	const admitted, askers, each = 100, 16, 50
	mw, _ := limit(t, policy.Policy{Limit: admitted})
	var reached, denied atomic.Int64
	r := start(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) }, Options{Middleware: mw})
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for range each {
				answer, err := r.client.Get(r.url)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if answer.StatusCode == 429 && answer.Header.Get("Retry-After") != "" {
					denied.Add(1)
				}
			}
		})
	}
	all.Wait()
	if reached.Load() != admitted || denied.Load() != askers*each-admitted {
		t.Errorf("%d reached the upstream, %d were denied", reached.Load(), denied.Load())
	}
}

func TestUpstreamsPath(t *testing.T) {
	r := start(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) },
		Options{Upstream: &url.URL{Scheme: "http", Path: "/base"}})
	if _, body := r.do(t, "GET", "/a?b", nil, nil); body != "/base/a?b" {
		t.Error(body)
	}
}

func TestUpstreamAway(t *testing.T) {
	mw, _ := limit(t, policy.Policy{Limit: 100})
	r := startFor(t, Options{Upstream: parse(t, "http://127.0.0.1:1"), Middleware: mw})
	for range 5 {
		answer, body := r.do(t, "GET", "/secret", nil, nil)
		const want = `{"type":"about:blank","title":"Bad Gateway","status":502,"detail":"the upstream can't be reached"}` + "\n"
		if answer.StatusCode != 502 || body != want || answer.Header.Get("Content-Type") != "application/problem+json" || answer.Header.Get("X-RateLimit-Limit") != "100" {
			t.Errorf("%d %v %s", answer.StatusCode, answer.Header, body)
		}
	}
	if log := r.log.Lines(); len(log) != 1 || !strings.Contains(log[0], "connection refused") || strings.Contains(log[0], "secret") {
		t.Errorf("the log has %q", log)
	}
}

func TestUpstreamSilent(t *testing.T) {
	r := start(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Options{HeaderTimeout: 50 * time.Millisecond})
	if answer, body := r.do(t, "GET", "/", nil, nil); answer.StatusCode != 504 || !strings.Contains(body, "did not answer in time") {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
}

func TestForwarded(t *testing.T) {
	forged := http.Header{
		"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"},
		"X-Real-Ip": {"203.0.113.9"}, "Forwarded": {`for=203.0.113.9`, `for="[2001:db8::1]"`}, "X_forwarded_for": {"203.0.113.9"}, "X-Forwarded": {"for=203.0.113.9"},
		"X-Original-Url": {"/else"}, "X_original_uri": {"/else"}, "X-Rewrite-Url": {"/else"},
	}
	for name, c := range map[string]struct {
		trusted func(netip.Addr) bool
		sent    http.Header
		want    func(host string) http.Header
	}{
		"nobody is trusted": {nil, forged, func(host string) http.Header {
			return http.Header{"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {"http"}}
		}},
		"others are trusted": {func(a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.1") }, forged, func(host string) http.Header {
			return http.Header{"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {"http"}}
		}},
		"the peer is trusted": {netip.Addr.IsLoopback, forged, func(string) http.Header {
			return http.Header{
				"X-Forwarded-For": {"203.0.113.9, 127.0.0.1"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"},
				"X-Real-Ip": {"203.0.113.9"}, "Forwarded": {`for=203.0.113.9, for="[2001:db8::1]", for=127.0.0.1`}, "X-Forwarded": {"for=203.0.113.9"},
				"X-Original-Url": {"/else"}, "X-Rewrite-Url": {"/else"},
			}
		}},
		"a trusted peer that says nothing": {netip.Addr.IsLoopback, nil, func(host string) http.Header {
			return http.Header{"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {"http"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var seen http.Header
			r := start(t, func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() }, Options{Trusted: c.trusted})
			r.do(t, "GET", "/", nil, c.sent)
			for _, usual := range []string{"Accept-Encoding", "User-Agent"} {
				seen.Del(usual)
			}
			if diff := cmp.Diff(c.want(strings.TrimPrefix(r.url, "http://")), seen); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := node(netip.MustParseAddr("2001:db8::1")); got != `"[2001:db8::1]"` {
		t.Error(got)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for upstream, want := range map[string]string{
		"":                      "server.proxy.upstream: has no host (write it as http://127.0.0.1:3000)",
		"localhost":             "server.proxy.upstream: has no host (write it as http://127.0.0.1:3000)",
		"ftp://a":               `server.proxy.upstream: unknown scheme "ftp" (use http, https or h2c)`,
		"http://user:secret@a/": "server.proxy.upstream: http://user:xxxxx@a/ has more than scheme, host and path (remove user, query and fragment)",
		"http://a?b":            "server.proxy.upstream: http://a?b has more than scheme, host and path (remove user, query and fragment)",
	} {
		if _, err := New(Options{Upstream: parse(t, upstream)}); err == nil || err.Error() != want {
			t.Errorf("%q: %v", upstream, err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no upstream at all")
	}
}

// TestOwnHeadersOutliveHints: what the upstream says before its answer carries nothing off.
func TestOwnHeadersOutliveHints(t *testing.T) {
	mw, _ := limit(t, policy.Policy{Limit: 10})
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.Copy(io.Discard, r.Body) // which sends 100 Continue
		_, _ = io.WriteString(w, "done")
	}, Options{Middleware: mw})
	answer, body := r.do(t, "PUT", "/", strings.NewReader("body"), http.Header{"Expect": {"100-continue"}})
	if body != "done" || answer.Header.Get("X-RateLimit-Limit") != "10" {
		t.Errorf("%v %s", answer.Header, body)
	}
}

func TestHeadersOfBothStay(t *testing.T) {
	add := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "Origin")
			next.ServeHTTP(w, r)
		})
	}
	r := start(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Vary", "Accept") }, Options{Middleware: add})
	if answer, _ := r.do(t, "GET", "/", nil, nil); !cmp.Equal(answer.Header["Vary"], []string{"Accept", "Origin"}) {
		t.Errorf("%v", answer.Header)
	}
}

// TestMaxConns: requests wait for a connection to the upstream, and all are answered.
func TestMaxConns(t *testing.T) {
	const most, askers = 2, 12
	arrived, release := make(chan struct{}, askers), make(chan struct{})
	r := start(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}, Options{MaxConns: most})
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			answer, err := r.client.Get(r.url)
			if err != nil || answer.StatusCode != 200 {
				t.Error(err, answer)
				return
			}
			answer.Body.Close()
		})
	}
	for range most {
		<-arrived
	}
	select {
	case <-arrived:
		t.Errorf("more than %d requests are at the upstream", most)
	case <-time.After(100 * time.Millisecond): // the others are long there, if they can be
	}
	close(release)
	all.Wait()
}

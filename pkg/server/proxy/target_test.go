package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestTargets: what is no path gets to nobody, and costs nothing; every other spelling of a path is limited as
// that path, and passed on as it came.
func TestTargets(t *testing.T) {
	const limited = "all"
	mw, _ := limit(t, policy.Policy{Limit: 100, Match: policy.Match{Endpoints: []string{"/login"}}})
	var seen atomic.Pointer[string]
	r := start(t, func(_ http.ResponseWriter, r *http.Request) { seen.Store(&r.RequestURI) }, Options{Middleware: mw})
	ask := func(line string) (status int, by, got string) {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		seen.Store(new(string))
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n", line)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		return answer.StatusCode, answer.Header.Get("X-RateLimit-Policy"), *seen.Load()
	}
	for _, c := range []struct {
		line   string
		status int
		by     string
		seen   string
	}{
		{"GET foo:login", 400, "", ""},
		{"GET *", 400, "", ""},
		{"OPTIONS *", 200, "", ""}, // answered by net/http
		{"CONNECT app:80", 405, "", ""},
		{"CONNECT /login", 405, "", ""},
		{"GET login", 400, "", ""},
		{"GET http://other/login", 200, limited, "/login"},
		{"GET http://other", 200, "", "/"},
		{"GET //login", 200, limited, "//login"},
		{"GET /./login", 200, limited, "/./login"},
		{"GET /a/%2e%2E/login", 200, limited, "/a/%2e%2E/login"},
		{"GET /%6cogin?a", 200, limited, "/%6cogin?a"},
		{"GET /a/..%2flogin", 200, "", "/a/..%2flogin"}, // one segment, whatever the upstream makes of it
		{"get /login", 200, limited, "/login"},
	} {
		if status, by, got := ask(c.line); status != c.status || by != c.by || got != c.seen {
			t.Errorf("%s: %d by %q, and the upstream saw %q; want %d by %q, and %q", c.line, status, by, got, c.status, c.by, c.seen)
		}
	}
}

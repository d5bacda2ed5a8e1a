package top

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weir-limiter/weir/pkg/policy"
)

// serve serves a handler on a socket, as the daemon does.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "weir.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	c := NewClient(socket)
	t.Cleanup(c.Close)
	return c
}

// What the daemon says arrives as it was said.
func TestHTTP(t *testing.T) {
	r := newRig(0)
	r.Top.begin()
	r.add(event(1, 0.5, policy.VerdictPass, 30))
	r.add(event(1, 0.5, policy.VerdictDrop, 30))
	r.now.Store(int64(boot + 3*time.Second))
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, Handler(r.Top))
	q := Query{N: 7, By: ByBytes, Window: 9 * time.Second}
	got, err := serve(t, mux).Report(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.must(t, 3, q), got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-said +heard:\n%s", diff)
	}
	if got.By != ByBytes || got.Total.Bytes != 1000 || len(got.Busiest) != 1 {
		t.Errorf("the query did not arrive: %+v", got)
	}
}

func TestHTTPErrors(t *testing.T) {
	answer := func(code int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, code) })
	}
	for _, c := range []struct {
		name     string
		handler  http.Handler
		q        Query
		noDaemon bool
		want     string
	}{
		{"an older daemon", http.NewServeMux(), Query{}, true, "does not know /v1/top"},
		{"a bad query", Handler(newRig(0).Top), Query{N: -3}, false, "400 Bad Request: query: n -3: want 1 to 1024"},
		{"a fault", answer(http.StatusServiceUnavailable, "no events"), Query{}, false, "503 Service Unavailable: no events"},
		{"nonsense", answer(http.StatusOK, "hello"), Query{}, false, "of another version?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := serve(t, c.handler).Report(t.Context(), c.q)
			if err == nil || errors.Is(err, ErrNoDaemon) != c.noDaemon || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestNoDaemon(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(dead); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{dead, filepath.Join(t.TempDir(), "none.sock")} {
		if _, err := NewClient(socket).Report(t.Context(), Query{}); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("%s: %v, want %v", socket, err, ErrNoDaemon)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewClient(dead).Report(ctx, Query{}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNoDaemon) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		url  string
		want Query
		err  string
	}{
		{"", Query{20, ByPassed, 5 * time.Second}, ""},
		{"n=3&by=bytes&window=1m", Query{3, ByBytes, time.Minute}, ""},
		{"by=dropped", Query{20, ByDropped, 5 * time.Second}, ""},
		{"n=0", Query{}, `n "0": want 1 to 1024`},
		{"n=1025", Query{}, "n 1025: want"},
		{"n=x", Query{}, `n "x"`},
		{"by=size", Query{}, `by "size": want passed, dropped or bytes`},
		{"window=61s", Query{}, "window 1m1s: want 1s to 1m0s"},
		{"window=999ms", Query{}, "window 999ms"},
		{"window=0s", Query{}, `window "0s"`},
		{"window=soon", Query{}, `window "soon"`},
	} {
		v, err := url.ParseQuery(c.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseQuery(v)
		if c.err != "" {
			if !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.url, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v, want %+v", c.url, got, err, c.want)
		}
		if again, err := ParseQuery(got.Values()); err != nil || again != got {
			t.Errorf("%q: %+v, %v as a URL and back", c.url, again, err)
		}
	}
}

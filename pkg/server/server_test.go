package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// fakeReadiness misses what it is told to.
type fakeReadiness struct {
	missing atomic.Pointer[[]Missing]
	config  atomic.Pointer[Config]
}

func (f *fakeReadiness) Config() Config {
	if c := f.config.Load(); c != nil {
		return *c
	}
	return Config{}
}

func (f *fakeReadiness) Missing() []Missing {
	if m := f.missing.Load(); m != nil {
		return *m
	}
	return nil
}

// running is a server and a client of it.
type running struct {
	url       string
	client    *http.Client
	log       *bytes.Buffer // to be read after stop
	readiness *fakeReadiness
	stop      func() error
}

func start(t *testing.T, metrics http.HandlerFunc) *running {
	t.Helper()
	return startWith(t, Options{Metrics: metrics})
}

// startWith fills in what is missing of the options.
func startWith(t *testing.T, o Options) *running {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{
		url: "http://" + l.Addr().String(), log: &bytes.Buffer{}, readiness: &fakeReadiness{},
		client: &http.Client{Transport: &http.Transport{}},
	}
	o.Listener, o.Readiness, o.Log = l, r.readiness, slog.New(slog.NewTextHandler(r.log, nil))
	if o.Metrics == nil {
		o.Metrics = http.NotFoundHandler()
	}
	s := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		defer r.client.CloseIdleConnections()
		return <-done
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *running) do(t *testing.T, method, path string) (*http.Response, string) {
	t.Helper()
	return r.send(t, method, path, "", nil)
}

// send makes a request with a body and headers.
func (r *running) send(t *testing.T, method, path, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	answer, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	r := start(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/metrics", 200, "metrics"},
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/healthz", 200, ""},
		{"GET", "/readyz", 200, `{"ready":true,"missing":[]}` + "\n"},
		{"POST", "/healthz", 405, "Method Not Allowed\n"},
		{"DELETE", "/metrics", 405, "Method Not Allowed\n"},
		{"GET", "/", 404, "404 page not found\n"},
		{"GET", "/debug/pprof/", 404, "404 page not found\n"},
	} {
		answer, body := r.do(t, test.method, test.path)
		if answer.StatusCode != test.status || body != test.body {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, answer.StatusCode, body, test.status, test.body)
		}
	}
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	r := start(t, http.NotFound)
	want := []Missing{{"eth1", "xdp", `eth1: no such interface "at all"`}}
	r.readiness.missing.Store(&want)
	answer, body := r.do(t, "GET", "/readyz")
	var got readiness
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 503 || got.Ready || len(got.Missing) != 1 || got.Missing[0] != want[0] {
		t.Errorf("readyz: %d %s, want 503 and %v", answer.StatusCode, body, want)
	}
	if got := answer.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}

// A reload that failed is shown, and is no reason to be taken out of service.
func TestReadyWithFailedReload(t *testing.T) {
	t.Parallel()
	r := start(t, http.NotFound)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.readiness.config.Store(&Config{Applied: &at, Failed: &FailedReload{At: at, Errors: []string{"weir.yaml:1:1: bad"}}})
	const want = `{"ready":true,"missing":[],"applied":"2026-01-02T03:04:05Z","failed_reload":{"at":"2026-01-02T03:04:05Z","errors":["weir.yaml:1:1: bad"]}}` + "\n"
	if answer, body := r.do(t, "GET", "/readyz"); answer.StatusCode != 200 || body != want {
		t.Errorf("readyz: %d %s, want 200 %s", answer.StatusCode, body, want)
	}
}

func TestHeaderIsBounded(t *testing.T) {
	t.Parallel()
	r := start(t, http.NotFound)
	request, err := http.NewRequestWithContext(t.Context(), "GET", r.url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	answer, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", answer.StatusCode)
	}
}

// A request that is being answered when the server is told to stop is answered to its end.
func TestShutdownIsGraceful(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	r := start(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(w, "whole")
	})
	answered := make(chan string, 1)
	go func() {
		answer, err := r.client.Get(r.url + "/metrics")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		answered <- string(body)
	}()
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	waitRefused(t, strings.TrimPrefix(r.url, "http://"))
	close(finish)
	if got := <-answered; got != "whole" {
		t.Errorf("answer %q, want whole", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// waitRefused waits until nobody listens on address any more.
func waitRefused(t *testing.T, address string) {
	t.Helper()
	for t.Context().Err() == nil {
		conn, err := net.Dial("tcp", address)
		if errors.Is(err, unix.ECONNREFUSED) {
			return
		}
		if err == nil {
			conn.Close()
		}
	}
}

// What panics is logged without the client, whose address net/http would log.
func TestPanic(t *testing.T) {
	t.Parallel()
	r := start(t, func(http.ResponseWriter, *http.Request) { panic("on purpose") })
	if answer, err := r.client.Get(r.url + "/metrics"); err == nil {
		answer.Body.Close()
		t.Errorf("status %d, want a closed connection", answer.StatusCode)
	}
	if _, body := r.do(t, "GET", "/healthz"); body != "ok\n" {
		t.Errorf("healthz after the panic: %q", body)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if log := r.log.String(); !strings.Contains(log, "on purpose") || strings.Contains(log, "127.0.0.1") {
		t.Errorf("log %q, want the panic and no address", log)
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	taken, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		address, mend string
		err           error
	}{
		{taken.Addr().String(), "ss -ltnp", unix.EADDRINUSE},
		{"192.0.2.1:8080", "ip address lists them", unix.EADDRNOTAVAIL},
	} {
		_, err := Listen(t.Context(), test.address)
		if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.mend) {
			t.Errorf("listen on %s: %v, want %v and %q", test.address, err, test.err, test.mend)
		}
	}
}

// A listener that breaks ends the server with an error.
func TestListenerBreaks(t *testing.T) {
	t.Parallel()
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var log bytes.Buffer
	s := New(Options{Listener: l, Readiness: &fakeReadiness{}, Metrics: http.NotFoundHandler(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err := s.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("run: %v, want %v", err, net.ErrClosed)
	}
}

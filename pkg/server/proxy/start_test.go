package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// running is a proxy, its upstream and a client, all on real connections.
type running struct {
	url    string
	client *http.Client
	log    *testutil.Log
	stop   func() error
}

// start serves a proxy for the upstream that handler is.
func start(t *testing.T, handler http.HandlerFunc, o Options) *running {
	t.Helper()
	upstream := httptest.NewUnstartedServer(handler)
	upstream.Config.Protocols = new(http.Protocols)
	upstream.Config.Protocols.SetHTTP1(true)
	upstream.Config.Protocols.SetUnencryptedHTTP2(true)
	var open atomic.Int64
	upstream.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	upstream.Start()
	t.Cleanup(func() { // after the proxy has stopped
		defer upstream.Close()
		for deadline := time.Now().Add(5 * time.Second); open.Load() > 0; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Errorf("the proxy left %d connections to the upstream open", open.Load())
				return
			}
		}
	})
	if o.Upstream == nil {
		o.Upstream = parse(t, upstream.URL)
	} else {
		o.Upstream.Host = upstream.Listener.Addr().String()
	}
	return startFor(t, o)
}

func startFor(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{log: &testutil.Log{}, client: &http.Client{Transport: &http.Transport{}}}
	o.Log = slog.New(slog.NewTextHandler(r.log, nil))
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(listener, p, o.Log).Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		r.client.CloseIdleConnections()
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// do makes a request and reads all of the answer.
func (r *running) do(t *testing.T, method, path string, body io.Reader, header http.Header) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
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

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// limit makes a middleware of the real engine with one policy.
func limit(t *testing.T, p policy.Policy) (func(http.Handler) http.Handler, *watched) {
	t.Helper()
	l, err := limiter.New(limiter.Options{Entries: limiter.MinEntries})
	if err != nil {
		t.Fatal(err)
	}
	p.Name, p.Scope, p.Layer, p.Window = "all", policy.ScopeGlobal, policy.LayerL7, time.Hour
	if err := l.Replace(policy.Document{Policies: []policy.Policy{p.WithDefaults()}}); err != nil {
		t.Fatal(err)
	}
	w := &watched{l, make(chan struct{}, 16)}
	return middleware.HTTP(w, middleware.HTTPOptions{}), w
}

// watched tells when something was released.
type watched struct {
	*limiter.Limiter
	released chan struct{}
}

func (w *watched) Release(r *limiter.Result) {
	if r.Releases() {
		defer func() { w.released <- struct{}{} }()
	}
	w.Limiter.Release(r)
}

package fallback_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/fallback"
)

// hook runs a webhook that posts to url, quickly; log has what it logged once stop was called.
func hook(t *testing.T, url string, o fallback.WebhookOptions) (w *fallback.Webhook, log *bytes.Buffer, stop func()) {
	t.Helper()
	log = &bytes.Buffer{}
	o.URL, o.Log, o.Pause = url, slog.New(slog.NewTextHandler(log, nil)), time.Millisecond
	w, err := fallback.NewWebhook(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return w, log, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// until waits for what real servers do.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 10s: %s", what)
		}
	}
}

func TestWebhookPosts(t *testing.T) {
	got := make(chan string, 4)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	defer server.Close()
	w, log, stop := hook(t, server.URL+"/alerts", fallback.WebhookOptions{})
	defer stop()
	a := fallback.Alert{
		Event: fallback.StoreBack, Instance: "node-1", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		ConsecutiveFailures: 7, Reason: "timeout", Duration: fallback.Duration(1500 * time.Millisecond),
	}
	w.Notify(a)
	want := `POST /alerts application/json {"event":"store_back","instance":"node-1","since":"2026-01-02T03:04:05Z","consecutive_failures":7,"reason":"timeout","duration":"1.5s"}`
	text := <-got
	if text != want {
		t.Errorf("posted\n%s, want\n%s", text, want)
	}
	var again fallback.Alert
	if err := json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &again); err != nil || again != a {
		t.Errorf("read back %+v %v", again, err)
	}
	until(t, "counted", func() bool { return w.State() == fallback.WebhookState{Sent: 1} })
	stop()
	if log.Len() != 0 {
		t.Errorf("logged %s", log)
	}
}

func TestWebhookTriesAgain(t *testing.T) {
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch tries.Add(1) {
		case 1:
			rw.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			panic(http.ErrAbortHandler)
		default:
			if body, _ := io.ReadAll(r.Body); !bytes.Contains(body, []byte("store_away")) {
				t.Errorf("the third attempt has no body: %q", body)
			}
		}
	}))
	defer server.Close()
	w, _, stop := hook(t, server.URL, fallback.WebhookOptions{})
	defer stop()
	w.Notify(fallback.Alert{Event: fallback.StoreAway})
	until(t, "sent", func() bool { return w.State() == fallback.WebhookState{Sent: 1, Retried: 2} })
}

func TestWebhookGivesUp(t *testing.T) {
	release := make(chan struct{})
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s at another host", r.Method, r.URL)
	}))
	defer elsewhere.Close()
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		tries   uint64
	}{
		{"slow", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the client left
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}, 3},
		{"failing", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }, 3},
		{"refusing", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) }, 1},
		{"another host", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, 1},
		{"a GET of the same", func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				t.Error("a POST became a GET")
			}
			http.Redirect(rw, r, "/there", http.StatusFound)
		}, 1},
		{"in a circle", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, r.URL.Path+"x", http.StatusPermanentRedirect)
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			w, log, stop := hook(t, server.URL+"/secret", fallback.WebhookOptions{Tries: 3, Timeout: 50 * time.Millisecond})
			defer stop()
			w.Notify(fallback.Alert{Event: fallback.StoreAway})
			until(t, "given up", func() bool { return w.State() == fallback.WebhookState{Failed: 1, Retried: c.tries - 1} })
			stop()
			if text := log.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "secret") || strings.Contains(text, "127.0.0.1") {
				t.Errorf("logged %s", text)
			}
		})
	}
	close(release)
}

func TestWebhookFollowsWithinItsHost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/alerts" {
			http.Redirect(rw, r, "/alerts/", http.StatusPermanentRedirect)
			return
		}
		if body, _ := io.ReadAll(r.Body); r.Method != http.MethodPost || len(body) == 0 {
			t.Errorf("%s %q", r.Method, body)
		}
	}))
	defer server.Close()
	w, _, stop := hook(t, server.URL+"/alerts", fallback.WebhookOptions{})
	defer stop()
	w.Notify(fallback.Alert{Event: fallback.StoreAway})
	until(t, "sent", func() bool { return w.State() == fallback.WebhookState{Sent: 1} })
}

// Nobody waits for a server that does not answer, and what is newest is kept.
func TestWebhookNeverBlocks(t *testing.T) {
	release, got := make(chan struct{}), make(chan uint64, 64)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var a fallback.Alert
		_ = json.NewDecoder(r.Body).Decode(&a)
		<-release
		got <- a.ConsecutiveFailures
	}))
	defer server.Close()
	w, _, stop := hook(t, server.URL, fallback.WebhookOptions{Timeout: 10 * time.Second})
	defer stop()
	const all = 1000
	began := time.Now()
	for i := range uint64(all) {
		w.Notify(fallback.Alert{Event: fallback.StoreAway, ConsecutiveFailures: i})
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("%d alerts took %v", all, took)
	}
	close(release)
	until(t, "all told or dropped", func() bool { s := w.State(); return s.Sent+s.Dropped == all })
	var last uint64
	for len(got) > 0 {
		last = <-got
	}
	if s := w.State(); last != all-1 || s.Sent > 18 || s.Failed != 0 {
		t.Errorf("the last one is %d, %+v", last, s)
	}
}

func TestWebhookStops(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer server.Close()
	w, log, stop := hook(t, server.URL, fallback.WebhookOptions{Timeout: time.Minute})
	w.Notify(fallback.Alert{Event: fallback.StoreAway})
	began := time.Now()
	stop()
	if took := time.Since(began); took > 5*time.Second || log.Len() != 0 {
		t.Errorf("stopped after %v, and logged %q", took, log)
	}
}

func TestWebhookURL(t *testing.T) {
	for _, url := range []string{"", "alerts", "ftp://x/y", "http://", "http://secret:pass@[::1/x"} {
		_, err := fallback.NewWebhook(fallback.WebhookOptions{URL: url})
		if err == nil || (url != "" && url != "http://" && strings.Contains(err.Error(), url)) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

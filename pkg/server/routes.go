package server

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// Readiness tells whether the daemon does what its file asks for.
type Readiness interface {
	// Missing lists the configured interfaces that are not enforced as the file says; empty means
	// ready. It is called by several goroutines at once and must not block.
	Missing() []Missing
}

// Missing is an interface that is not enforced as the file says, and why.
type Missing struct {
	Interface string `json:"interface"`
	Reason    string `json:"reason"`
}

// readiness is the answer of /readyz. Probes and people read it: add fields, rename none.
type readiness struct {
	Ready   bool      `json:"ready"`
	Missing []Missing `json:"missing"`
}

// routes answers GET and HEAD on three paths; other methods get 405, other paths 404.
func routes(o Options) http.Handler {
	// A mux of its own: the default one has whatever a library hangs into it, such as pprof.
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", o.Metrics)
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", readyz(o.Readiness))
	return mux
}

// healthz says that the daemon is alive. Whether it can do its work is for readyz: to restart a daemon
// because an interface is unplugged would mend nothing.
func healthz(w http.ResponseWriter, _ *http.Request) {
	setHeaders(w, "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n") // a client that went away needs no answer
}

func readyz(r Readiness) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		answer := readiness{Missing: []Missing{}}
		answer.Missing = append(answer.Missing, r.Missing()...)
		answer.Ready = len(answer.Missing) == 0
		setHeaders(w, "application/json")
		if !answer.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer) // as above
	}
}

func setHeaders(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
}

// recovered keeps a handler that panics from being logged by net/http, which would name the client.
func recovered(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			reason := recover()
			if reason == nil {
				return
			}
			if reason != http.ErrAbortHandler {
				log.Error("a request could not be answered; this is a defect of weir, please report it",
					"path", r.URL.Path, "panic", reason, "stack", string(debug.Stack()))
			}
			// Part of the answer may be gone already: only closing the connection tells the client.
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}

package server

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Readiness tells whether the daemon does what its file asks for.
type Readiness interface {
	// Missing lists the configured interfaces that are not enforced as the file says; empty means
	// ready. It is called by several goroutines at once and must not block.
	Missing() []Missing
	// Config tells where the policies came from. As Missing.
	Config() Config
}

// Missing is an interface that is not enforced as the file says, and why.
type Missing struct {
	Interface string `json:"interface"`
	Hook      string `json:"hook"`
	Reason    string `json:"reason"`
}

// Config tells where what is enforced came from.
type Config struct {
	// Applied is when the admin API changed it last; nil if it is as the file was when it was read.
	Applied *time.Time `json:"applied,omitempty"`
	// Failed is why the file as it is now is not in force; nil if it is, or was not tried.
	Failed *FailedReload `json:"failed_reload,omitempty"`
	// ClusterVersion is the version of the cluster's policies that is in force; 0: those of the file are.
	ClusterVersion uint64 `json:"cluster_policies_version,omitempty"`
	// Warnings say what works less well than it could, without secrets: whoever reaches the port reads them.
	Warnings []string `json:"warnings,omitempty"`
	// RequestsOnly says that the daemon limits requests alone, and has nothing to do with the kernel.
	RequestsOnly bool `json:"requests_only,omitempty"`
}

// FailedReload is a reload that changed nothing.
type FailedReload struct {
	At time.Time `json:"at"`
	// Errors are all that is wrong with the file, or why the kernel refused it.
	Errors []string `json:"errors"`
}

// readiness is the answer of /readyz. Probes and people read it: add fields, rename none. A reload that
// failed does not make the daemon unready: what was in force still is.
type readiness struct {
	Ready   bool      `json:"ready"`
	Missing []Missing `json:"missing"`
	Config
}

// routes answers what there is somebody for; other methods get 405, other paths 404. Once stopping
// is closed no answer is held back any longer.
func routes(o Options, stopping <-chan struct{}) http.Handler {
	all := []route{
		{"GET /metrics", forAll, o.Metrics},
		{"GET /healthz", forAll, http.HandlerFunc(healthz)},
		{"GET /readyz", forAll, readyz(o.Readiness)},
	}
	if o.Policies != nil {
		all = append(all, policyRoutes(o.Policies)...)
	}
	if o.Cluster != nil {
		all = append(all, clusterRoutes(o.Cluster)...)
	}
	if o.Standing != nil {
		all = append(all, standingRoutes(o.Standing)...)
	}
	if o.Bans != nil {
		all = append(all, banRoutes(o.Bans)...)
	}
	if o.Top != nil {
		all = append(all, route{"GET /v1/top", guarded, o.Top})
	}
	if o.Figures != nil {
		all = append(all, figureRoutes(o.Figures)...)
	}
	if o.Buckets != nil {
		all = append(all, bucketRoutes(o.Buckets)...)
	}
	if o.Checker != nil {
		all = append(all, checkRoutes(o, stopping)...)
	}
	// A mux of its own: the default one has whatever a library hangs into it, such as pprof.
	mux := http.NewServeMux()
	var auth http.Handler = mux
	for _, r := range all {
		if r.access == guarded && !o.Local {
			r.handler = guard(o.Token, o.Log, r.handler)
		}
		mux.Handle(r.pattern, r.handler)
		if r.pattern == authPath {
			auth = r.handler
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == authPath { // which nearly all requests are for
			auth.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// authPath is where proxies ask.
const authPath = "/v1/auth"

// healthz says that the daemon is alive. Whether it can do its work is for readyz: to restart a daemon
// because an interface is unplugged would mend nothing.
func healthz(w http.ResponseWriter, _ *http.Request) {
	setHeaders(w, "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n") // a client that went away needs no answer
}

func readyz(r Readiness) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		answer := readiness{Missing: []Missing{}, Config: r.Config()}
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

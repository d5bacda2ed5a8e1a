package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
)

func newLimiter() (*limiter.Limiter, error) {
	limits, err := limiter.New(limiter.Options{})
	if err != nil {
		return nil, err
	}
	err = limits.AddPolicy(context.Background(), policy.Policy{
		Name: "per-client", Scope: policy.ScopePerIP, Layer: policy.LayerL7,
		Limit: 2, Window: time.Hour,
	}.WithDefaults())
	return limits, err
}

func ExampleHTTP() {
	limits, err := newLimiter()
	if err != nil {
		log.Fatal(err)
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	})
	limited := middleware.HTTP(limits, middleware.HTTPOptions{Dialect: middleware.IETF})
	server := httptest.NewServer(limited(hello)) // in earnest: http.Server{Handler: limited(hello)}
	defer server.Close()

	for range 3 {
		answer, err := http.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		answer.Body.Close()
		fmt.Println(answer.StatusCode, answer.Header.Get("RateLimit"))
	}
	// Output:
	// 200 "per-client";r=1;t=1800
	// 200 "per-client";r=0;t=3600
	// 429 "per-client";r=0;t=3600
}

func ExampleHTTPOptions_extract() {
	options := middleware.HTTPOptions{
		Extract: func(r *http.Request) (string, limiter.RequestContext, error) {
			tenant, _, ok := strings.Cut(r.Host, ".")
			if !ok {
				return "", limiter.RequestContext{}, errors.New("the host names no tenant (want tenant.example.org)")
			}
			return "", limiter.RequestContext{
				Method: r.Method, Endpoint: r.URL.EscapedPath(),
				UserID:   r.Header.Get("X-User"), // set by an authentication that ran before
				Metadata: map[string]string{"tenant": tenant},
			}, nil
		},
		Hits: func(r *http.Request) uint64 { // an export costs as much as ten other requests
			if r.URL.Path == "/export" {
				return 10
			}
			return 1
		},
		Skip: func(r *http.Request) bool { return r.URL.Path == "/healthz" },
	}
	limits, err := newLimiter()
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
	middleware.HTTP(limits, options)(http.NotFoundHandler()).ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output:
	// 400 {"type":"about:blank","title":"Bad Request","status":400,"detail":"the host names no tenant (want tenant.example.org)"}
}

package middleware

import (
	"net/http"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
)

type fields struct{}

func (f *fields) collect(d Dialect, res *limiter.Result, now time.Time) {}
func (f *fields) write(h http.Header)                                   {}

func errorBody(*limiter.Result) ErrorBody { return ErrorBody{} }
func retryAfter(*limiter.Result) uint64   { return 0 }
func denied(*limiter.Result) bool         { return false }
func writeDenied(w http.ResponseWriter, r *http.Request, status int, d Dialect, res *limiter.Result, now time.Time) {
}
func writeProblem(w http.ResponseWriter, status int, detail string) {}

package middleware

import (
	"net/http"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// The codes of an [ErrorBody].
const (
	CodeExceeded = "RATE_LIMIT_EXCEEDED"
	CodeDenied   = "ACCESS_DENIED" // by the deny list
)

// ErrorBody is the JSON that a denied request is answered with. Clients read it: add fields, rename none.
type ErrorBody struct {
	Error ErrorInfo `json:"error"`
}

// ErrorInfo is what is in an [ErrorBody].
type ErrorInfo struct {
	Code    string       `json:"code"`
	Message string       `json:"message"`
	Details ErrorDetails `json:"details"`
	// RecoverySuggestions are for people: what the client can do.
	RecoverySuggestions []string `json:"recovery_suggestions"`
}

// ErrorDetails are the figures of a denial. All are 0 where the deny list decided.
type ErrorDetails struct {
	Limit             uint64 `json:"limit"`
	WindowSeconds     uint64 `json:"window_seconds"`      // rounded up
	RetryAfterSeconds uint64 `json:"retry_after_seconds"` // as Retry-After
	Policy            string `json:"policy"`
}

// NewErrorBody makes the body of the answer to what was denied.
func NewErrorBody(res *limiter.Result) ErrorBody { return errorBody(res) }

// RetryAfter is the value of Retry-After in an answer to what was denied: whole seconds, rounded up, at least
// 1. A wait that never ends is said to be one window. 0 for what the deny list decided: no wait helps.
func RetryAfter(res *limiter.Result) uint64 { return retryAfter(res) }

// WriteDenied answers a request that was denied: status 429 with Retry-After, or 403 if the deny list
// decided; the headers of d; and an [ErrorBody], or a problem of RFC 9457 if the client prefers that.
func WriteDenied(w http.ResponseWriter, r *http.Request, d Dialect, res *limiter.Result, now time.Time) {
	status := http.StatusTooManyRequests
	if denied(res) {
		status = http.StatusForbidden
	}
	WriteDeniedAs(w, r, status, d, res, now)
}

// WriteDeniedAs is WriteDenied with another status: nginx's auth_request passes on none but 401 and 403.
func WriteDeniedAs(w http.ResponseWriter, r *http.Request, status int, d Dialect, res *limiter.Result, now time.Time) {
	writeDenied(w, r, status, d, res, now)
}

// WriteProblem answers with a problem of RFC 9457, whose detail must have no secret and no address in it.
func WriteProblem(w http.ResponseWriter, status int, detail string) { writeProblem(w, status, detail) }

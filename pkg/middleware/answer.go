package middleware

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The codes of an [ErrorBody].
const (
	CodeExceeded = "RATE_LIMIT_EXCEEDED"
	CodeDenied   = "ACCESS_DENIED" // by a list of addresses, whatever the rate
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

// ErrorDetails are the figures of a denial. All are 0 where a list decided.
type ErrorDetails struct {
	Limit             uint64 `json:"limit"`
	WindowSeconds     uint64 `json:"window_seconds"`      // rounded up
	RetryAfterSeconds uint64 `json:"retry_after_seconds"` // as Retry-After
	Policy            string `json:"policy"`
}

// Problem is the same as a problem of RFC 9457, application/problem+json.
type Problem struct {
	Type   string `json:"type"` // about:blank: the status says it all
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	ErrorDetails
}

// NewErrorBody makes the body of the answer to what was denied.
func NewErrorBody(res *limiter.Result) ErrorBody {
	if listed(res) {
		return ErrorBody{ErrorInfo{Code: CodeDenied, Message: "Access denied", RecoverySuggestions: []string{
			"Ask the operator of this service to let your address in",
		}}}
	}
	wait := RetryAfter(res)
	first := "Wait " + strconv.FormatUint(wait, 10) + plural(wait, " second") + " before retrying"
	if res.RetryAfter == limiter.Never {
		first = "Ask for at most " + strconv.FormatUint(res.Burst, 10) + " at once"
	}
	return ErrorBody{ErrorInfo{
		Code: CodeExceeded, Message: "Rate limit exceeded", Details: details(res, wait),
		RecoverySuggestions: []string{first, "Implement exponential backoff", "Consider upgrading to a higher rate limit tier"},
	}}
}

func newProblem(res *limiter.Result, status int) Problem {
	p := Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: "access denied"}
	if listed(res) {
		return p
	}
	wait := RetryAfter(res)
	p.ErrorDetails = details(res, wait)
	p.Detail = "rate limit exceeded: retry after " + strconv.FormatUint(wait, 10) + plural(wait, " second")
	if res.RetryAfter == limiter.Never {
		p.Detail = "rate limit exceeded: no more than " + strconv.FormatUint(res.Burst, 10) + " at once will ever pass"
	}
	return p
}

func details(res *limiter.Result, wait uint64) ErrorDetails {
	name := res.Policy
	if !plain(name) {
		name = string(appendName(nil, name))
	}
	return ErrorDetails{Limit: res.Limit, WindowSeconds: secondsUp(res.Window), RetryAfterSeconds: wait, Policy: name}
}

func plural(n uint64, unit string) string {
	if n == 1 {
		return unit
	}
	return unit + "s"
}

// RetryAfter is the value of Retry-After in an answer to what was denied: whole seconds, rounded up, at least
// 1. Where no wait will do it is one window: some clients take an answer without it for one to retry at once.
// 0 for what a list denied.
func RetryAfter(res *limiter.Result) uint64 {
	switch {
	case listed(res):
		return 0
	case res.RetryAfter == limiter.Never:
		return max(1, secondsUp(res.Window))
	}
	return max(1, secondsUp(res.RetryAfter))
}

// listed tells whether a list of addresses denied, and no policy.
func listed(res *limiter.Result) bool {
	return res.List == policy.ListDeny || res.List == policy.ListBan
}

// WriteDenied answers a request that was denied: status 429 with Retry-After, or 403 if the deny list
// decided; the headers of d; and an [ErrorBody], or a [Problem] if the client prefers that.
func WriteDenied(w http.ResponseWriter, r *http.Request, d Dialect, res *limiter.Result, now time.Time) {
	WriteDeniedAs(w, r, statusOf(res), d, res, now)
}

func statusOf(res *limiter.Result) int {
	if listed(res) {
		return http.StatusForbidden
	}
	return http.StatusTooManyRequests
}

// WriteDeniedAs is [WriteDenied] with another status: nginx's auth_request passes on none but 401 and 403.
func WriteDeniedAs(w http.ResponseWriter, r *http.Request, status int, d Dialect, res *limiter.Result, now time.Time) {
	setDenied(w.Header(), d, res, now)
	writeDenied(w, r, status, res)
}

// setDenied sets the headers of the answer to what was denied.
func setDenied(h http.Header, d Dialect, res *limiter.Result, now time.Time) {
	d.Set(h, res, now)
	if wait := RetryAfter(res); wait > 0 {
		h[headerRetryAfter] = []string{strconv.FormatUint(wait, 10)}
	}
}

// The types of bodies, as http.Header holds them. They are shared by all answers, and nobody writes to them.
var (
	typeJSON    = []string{"application/json"}
	typeProblem = []string{"application/problem+json"}
	noSniff     = []string{"nosniff"}
	noStore     = []string{"no-store"}
)

// writeDenied writes status and body.
func writeDenied(w http.ResponseWriter, r *http.Request, status int, res *limiter.Result) {
	body := bodies.Get().(*[]byte)
	defer bodies.Put(body)
	if prefersProblem(r.Header["Accept"]) {
		*body = appendProblem((*body)[:0], newProblem(res, status))
		writeBody(w, status, typeProblem, *body)
		return
	}
	*body = append(NewErrorBody(res).AppendJSON((*body)[:0]), '\n')
	writeBody(w, status, typeJSON, *body)
}

// WriteProblem answers with a problem of RFC 9457. The detail goes to the client: it must have no secret and
// no address in it.
func WriteProblem(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, detail})
	if err != nil {
		panic(err) // strings and a number
	}
	writeBody(w, status, typeProblem, append(body, '\n'))
}

func writeBody(w http.ResponseWriter, status int, contentType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = noStore
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away needs no answer
}

package limiter

import (
	"errors"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// RequestContext is what is known of a request.
type RequestContext = policy.RequestContext

// MaxKey is the length of the longest key, user, endpoint or other text of a query, in bytes.
const MaxKey = policy.MaxText

// ErrQuery is wrapped by the errors of queries that can't be decided as they are, all of which are
// [*QueryError]: nothing was charged. Any other error of a check is the limiter's own.
var ErrQuery = errors.New("bad query")

// QueryError says which field of a query is wrong, and why.
type QueryError struct {
	Field   string // as the HTTP API spells it: "key", "limit", "context.endpoint"
	Problem string
	Mend    string
}

// Error returns field, problem and mend in one line.
func (e *QueryError) Error() string { return e.Field + ": " + e.Problem + "; " + e.Mend }

// Is tells that it is an [ErrQuery].
func (e *QueryError) Is(target error) bool { return target == ErrQuery }

// Query is one question to a [Limiter]: may this pass? What decides is, by the first that is set, a rule,
// a limit that comes with the question, or the limiter's policies.
type Query struct {
	// Key names the caller: the bucket of Rule and of Limit. To the policies it stands for the client
	// where Request has no ClientIP, and for {key} in a template.
	Key string
	// Rule is a limit that somebody else's configuration has, see [Limiter.NewRule].
	Rule *Rule
	// Limit and Window are a limit that comes with the question, as a token bucket that holds Limit.
	Limit  uint64
	Window time.Duration
	// Request is what the policies judge. It is read only while the call lasts.
	Request *RequestContext
	// Hits is how many tokens the question is worth. 0 asks what one would get, and takes none.
	Hits uint64
	// MaxDelay is the longest [Result.Delay] that the asker would wait: what would have to wait longer is
	// denied, and takes no place in the queue. 0: any; negative: none.
	MaxDelay time.Duration
	// Refundable keeps what is charged with the result, for [Limiter.Refund].
	Refundable bool
}

// longest is the longest wait that a query may be told.
func (q *Query) longest() time.Duration {
	if q.MaxDelay == 0 {
		return Never
	}
	return max(0, q.MaxDelay)
}

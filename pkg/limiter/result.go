package limiter

import (
	"math"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Never is the RetryAfter of what no wait will make pass: more hits than a full bucket holds, or a client
// on the deny list.
const Never time.Duration = math.MaxInt64

// Header is a header that a policy adds to the answers that it decides.
type Header struct{ Name, Value string } // Name in canonical form

// Result is what a [Limiter] says to a query. It is a value, and its slices must be treated as read only.
type Result struct {
	Allowed bool
	// Policy is the policy or rule whose figures these are: of a denial the one with the longest wait,
	// else the one with the least left. Empty if none applied, and then the figures are 0.
	Policy string
	// Limit per Window is what the policy grants, and Burst what it grants at once.
	Limit  uint64
	Window time.Duration
	Burst  uint64
	// Remaining is how many hits would be admitted now, after this one.
	Remaining uint64
	// ResetAfter is when all of Burst is there again, if nobody asks until then.
	ResetAfter time.Duration
	// RetryAfter is how long the same query would have to wait; 0 if it was allowed, maybe [Never].
	RetryAfter time.Duration
	// Delay is how long what was allowed has to wait before it goes on: algorithm leaky_bucket.
	Delay time.Duration
	// Headers are those of the policy.
	Headers []Header
	// Shadow is the first policy in mode shadow that would have denied; empty if none.
	Shadow string
	// List is the list that decided before any policy: allow or deny, else none.
	List policy.List

	lease lease
}

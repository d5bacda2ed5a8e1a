package limiter

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// OwnPolicy is what results call a limit that came with its query.
const OwnPolicy = "request"

// ownRules remembers the rules of limits that came with queries, each in the one place that it may have:
// most who ask do so with the same few limits, and what is forgotten is made again.
type ownRules [1 << 8]atomic.Pointer[Rule]

// ownRule is the rule of a limit that comes with a query.
func (l *Limiter) ownRule(q *Query) (*Rule, error) {
	if bad := checkText("key", q.Key, mustBeThere); bad != nil {
		return nil, bad
	}
	which := mix(q.Limit ^ mix(uint64(q.Window)))
	place := &l.ownRules[which%uint64(len(l.ownRules))]
	if r := place.Load(); r != nil && r.policy.Limit == q.Limit && r.policy.Window == q.Window {
		return r, nil
	}
	r, err := l.newOwnRule(q.Limit, q.Window)
	if err != nil {
		return nil, err
	}
	// Who asks with another limit has another bucket: a debt to the one means nothing to the other.
	r.space.offset = mix(r.space.offset ^ which)
	place.Store(r)
	return r, nil
}

func (l *Limiter) newOwnRule(limit uint64, window time.Duration) (*Rule, error) {
	p := policy.Policy{Name: OwnPolicy, Limit: limit, Window: window, Burst: limit, Unit: policy.UnitRequests}
	if faults := p.RateFaults(); faults != nil {
		f := faults[0]
		if f.Path == "burst" { // which a query has none of
			return nil, &QueryError{"window", fmt.Sprintf("%s is longer than %s", policy.FormatDuration(window), policy.FormatDuration(policy.MaxRefill)), "shorten it"}
		}
		return nil, &QueryError{f.Path, f.Problem, f.Mend}
	}
	algorithm, err := newTokenBucket(p)
	if err != nil {
		return nil, &QueryError{"limit", err.Error(), "choose a rate from 1/day to 100000000/s"}
	}
	return &Rule{policy: p, algorithm: algorithm, counters: l.own, space: l.ownSpace}, nil
}

type textNeed bool

const (
	mayBeEmpty  textNeed = false
	mustBeThere textNeed = true
)

// checkText judges a text of a query.
func checkText(field, text string, need textNeed) *QueryError {
	problem, mend := textFault(text, need)
	if problem == "" {
		return nil
	}
	return &QueryError{field, problem, mend}
}

func textFault(text string, need textNeed) (problem, mend string) {
	if text == "" && need == mustBeThere {
		return "must not be empty", "say whom the bucket is for"
	}
	if len(text) > MaxKey {
		return fmt.Sprintf("has %d bytes", len(text)), fmt.Sprintf("shorten it to at most %d, or use a digest of it", MaxKey)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return fmt.Sprintf("has a control character at byte %d", i), "remove it"
		}
	}
	return "", ""
}

// maxMetadata is how many names a request may have in its metadata.
const maxMetadata = 64

// checkRequest judges the texts of a request.
func checkRequest(q *Query) error {
	r := q.Request
	for _, c := range [...]struct{ field, text string }{
		{"key", q.Key}, {"context.method", r.Method}, {"context.endpoint", r.Endpoint}, {"context.user_id", r.UserID},
		{"context.user_role", r.UserRole}, {"context.api_key", r.APIKey},
	} {
		if bad := checkText(c.field, c.text, mayBeEmpty); bad != nil {
			return bad
		}
	}
	if len(r.Metadata) > maxMetadata {
		return &QueryError{"context.metadata", fmt.Sprintf("has %d names", len(r.Metadata)), fmt.Sprintf("send at most %d", maxMetadata)}
	}
	for name, text := range r.Metadata {
		if bad := checkText("context.metadata", name, mustBeThere); bad != nil {
			return bad
		}
		if problem, mend := textFault(text, mayBeEmpty); problem != "" {
			return &QueryError{fmt.Sprintf("context.metadata[%q]", name), problem, mend}
		}
	}
	return nil
}

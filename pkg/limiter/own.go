package limiter

import (
	"fmt"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// OwnPolicy is what results call a limit that came with its query.
const OwnPolicy = "request"

// ownRule makes r the rule of a limit that comes with a query. It asks for no memory: that is why the
// algorithm is part of the rule's own.
func (l *Limiter) ownRule(r *Rule, q *Query) error {
	if bad := checkText("key", q.Key, mustBeThere); bad != nil {
		return bad
	}
	p := policy.Policy{Name: OwnPolicy, Limit: q.Limit, Window: q.Window, Burst: q.Limit}
	for _, f := range p.RateFaults() {
		return &QueryError{f.Path, f.Problem, f.Mend}
	}
	limit, err := bucket.NewLimit(q.Limit, q.Window, q.Limit)
	if err != nil {
		return &QueryError{"limit", err.Error(), "choose a rate from 1/day to 100000000/s"}
	}
	r.own = tokenBucket{limit, true}
	r.policy, r.algorithm, r.counters = p, &r.own, l.own
	// Who asks with another limit has another bucket: a debt in tokens of the one means nothing in the other.
	r.space = l.ownSpace
	r.space.offset = mix(r.space.offset ^ q.Limit ^ mix(uint64(q.Window)))
	return nil
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

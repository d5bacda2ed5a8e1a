package server

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	// maxDelay is the longest that a request is held back until its turn comes: the longest queue that a policy
	// may have. Proxies hardly wait longer for an answer.
	maxDelay = policy.MaxQueueDelay
	// maxHeld is how many requests are held back at once, or few more: each takes a connection and a goroutine.
	maxHeld = 10_000
)

// statusHeader tells what the status of an answer would be but for ?deny=403, or that the limiter failed.
const statusHeader = "X-Ratelimit-Status"

// bodyHeader has the body of what is denied with ?deny=403: auth_request of nginx reads headers alone.
const bodyHeader = "X-Ratelimit-Body"

// authQuery is what a proxy's configuration asks of /v1/auth by its URL.
type authQuery struct {
	hits uint64
	deny int // the status of what is denied; 0: the one that says why
}

// contexts are those of requests that are being answered. A limiter reads one only while it decides, and to
// allocate it would be the largest allocation of the call.
var contexts = sync.Pool{New: func() any { return new(limiter.RequestContext) }}

// auth answers /v1/auth, whatever the method: that is the one of the request which the proxy asks about.
//
// A limiter that fails lets requests pass: that nobody counts is no reason to take a site down. A request that
// can't be understood is refused: or else a client could choose not to be limited.
func (c *checks) auth(w http.ResponseWriter, r *http.Request) {
	var q authQuery
	if raw := r.URL.RawQuery; clientsQuery(r, raw) {
		q = authQuery{hits: 1}
	} else {
		var err error
		if q, err = parseAuthQuery(raw); err != nil {
			writeProblem(w, err)
			return
		}
	}
	res, err := c.judge(r, q.hits)
	if err != nil {
		c.authFailed(w, q, err)
		return
	}
	if !res.Allowed {
		c.denied(w, r, q, &res)
		return
	}
	if res.Delay > 0 {
		c.held.wait(r, res.Delay)
	}
	// An empty answer with status 200: net/http adds Content-Length and Date.
	c.dialect().Set(w.Header(), &res, time.Now())
}

func (c *checks) judge(r *http.Request, hits uint64) (limiter.Result, error) {
	rc := contexts.Get().(*limiter.RequestContext)
	defer func() {
		*rc = limiter.RequestContext{} // or it would keep the request's headers alive
		contexts.Put(rc)
	}()
	var err error
	if *rc, err = c.identity.ForwardAuth(r); err != nil {
		return limiter.Result{}, misunderstood(err)
	}
	res, err := c.checker.Check(r.Context(), limiter.Query{Request: rc, Hits: hits, MaxDelay: c.held.longest()})
	if err == nil {
		err = tooManyHits(hits, &res)
	}
	return res, err
}

// misunderstood is why a request has no context.
func misunderstood(err error) error {
	if field, ok := errors.AsType[*identity.FieldError](err); ok {
		return badRequest(field.Field, field.Problem, field.Mend)
	}
	if isProblem(err) {
		return err
	}
	return NewProblem(http.StatusBadRequest, "%v", err)
}

func (c *checks) authFailed(w http.ResponseWriter, q authQuery, err error) {
	if !isProblem(err) {
		c.failures.note(err)
		w.Header().Set(statusHeader, "503")
		return
	}
	p := *problemOf(err) // which may be somebody else's
	if q.deny != 0 {
		w.Header().Set(statusHeader, strconv.Itoa(p.Status))
		p.Status, p.Title = q.deny, http.StatusText(q.deny)
	}
	writeProblem(w, &p)
}

func (c *checks) denied(w http.ResponseWriter, r *http.Request, q authQuery, res *limiter.Result) {
	if q.deny == 0 {
		middleware.WriteDenied(w, r, c.dialect(), res, time.Now())
		return
	}
	status := http.StatusTooManyRequests
	if res.List == policy.ListDeny {
		status = http.StatusForbidden
	}
	w.Header().Set(statusHeader, strconv.Itoa(status))
	w.Header().Set(bodyHeader, string(middleware.NewErrorBody(res).AppendJSON(nil)))
	middleware.WriteDeniedAs(w, r, q.deny, c.dialect(), res, time.Now())
}

// clientsQuery tells whether the query is that of the request which the proxy asks about: Caddy's forward_auth, and
// others that rewrite the path alone, leave it where it was. It is no word of the proxy's: whoever wrote ?hits=0
// would be limited no more, and every other query would be refused.
//
// deny=403 is the proxy's, whoever says it as well: it lets nobody pass.
func clientsQuery(r *http.Request, raw string) bool {
	if raw == "" || raw == "deny=403" {
		return false
	}
	for _, name := range [...]string{"X-Forwarded-Uri", "X-Original-Uri", "X-Original-Url"} {
		for _, target := range r.Header[name] {
			if _, query, _ := strings.Cut(target, "?"); query == raw {
				return true
			}
		}
	}
	return false
}

// parseAuthQuery reads deny and hits, and refuses what else is there: it would be a misspelt one.
func parseAuthQuery(raw string) (authQuery, error) {
	switch raw { // the two that nearly everybody has
	case "":
		return authQuery{hits: 1}, nil
	case "deny=403":
		return authQuery{hits: 1, deny: http.StatusForbidden}, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return authQuery{}, NewProblem(http.StatusBadRequest, "the query of the URL: %v", err)
	}
	q, o := authQuery{hits: 1}, object{}
	for name, all := range values {
		switch value := all[0]; {
		case len(all) > 1:
			o.fault(policy.Shorten(name), "leave one out", "is set again")
		case name == "hits":
			o.number(name, []byte(value), &q.hits)
		case name == "deny" && value == "403":
			q.deny = http.StatusForbidden
		case name == "deny" && value == "429": // as without it
		case name == "deny":
			o.fault(name, "set it to 403, or leave it out", "want 403 or 429")
		default:
			o.fault(policy.Shorten(name), "there are deny and hits", "unknown parameter")
		}
	}
	return q, o.problem()
}

// held are the requests that wait for their turn.
type held struct {
	n        atomic.Int64
	stopping <-chan struct{} // closed when the server is to stop
}

// longest is how long one more request may wait, for the limiter to deny what would have to wait longer.
func (h *held) longest() time.Duration {
	if h.n.Load() >= maxHeld {
		return -1 // not at all
	}
	return maxDelay
}

// wait returns when the turn of a request has come, or its client has gone away, or the server is to stop, which
// lets it go on early.
func (h *held) wait(r *http.Request, delay time.Duration) {
	h.n.Add(1)
	defer h.n.Add(-1)
	turn := time.NewTimer(delay)
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-r.Context().Done():
	case <-h.stopping:
	}
}

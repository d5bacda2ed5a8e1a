package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
	"github.com/weir-limiter/weir/pkg/policy"
)

// checks answers the calls that charge buckets.
type checks struct {
	checker  Checker
	identity Identity
	dialect  func() middleware.Dialect
	failures failures
	held     held
}

// checkRoutes are open to everybody who can reach the server: to charge buckets is what it is for. Whether what
// a client says of itself is to be believed is for Identity in /v1/auth. A body of /v1/check is believed.
func checkRoutes(o Options, stopping <-chan struct{}) []route {
	c := &checks{checker: o.Checker, identity: o.Identity, dialect: o.Headers, failures: failures{log: o.Log}, held: held{stopping: stopping}}
	if c.dialect == nil {
		c.dialect = func() middleware.Dialect { return middleware.XRateLimit }
	}
	all := []route{
		{"POST /v1/check", forAll, http.HandlerFunc(c.check)},
		{"POST /v1/release", forAll, http.HandlerFunc(c.release)},
	}
	if o.Identity != nil {
		all = append(all, route{authPath, forAll, http.HandlerFunc(c.auth)})
	}
	return all
}

// CheckAnswer is what /v1/check says of a request that is allowed. Clients read it: add fields, rename none.
// What is denied is answered with a [middleware.ErrorBody].
type CheckAnswer struct {
	Allowed   bool   `json:"allowed"`
	Limit     uint64 `json:"limit"`
	Remaining uint64 `json:"remaining"`
	// Reset is when all of the burst is there again, in seconds since the start of 1970, rounded up; 0 if no
	// policy decided.
	Reset int64 `json:"reset"`
	// RetryAfter is 0, as what is denied has an answer of its own.
	RetryAfter uint64 `json:"retry_after"`
	// Policy is whose figures these are: [limiter.OwnPolicy] for a limit that came with the request; empty if
	// none decided.
	Policy        string  `json:"policy"`
	WindowSeconds float64 `json:"window_seconds,omitempty"`
	// Delay is how many seconds the request has to wait before it goes on.
	Delay float64 `json:"delay,omitempty"`
	// Lease is what /v1/release takes when the request has ended.
	Lease string `json:"lease,omitempty"`
	// Shadow is the policy in mode shadow that would have denied.
	Shadow string `json:"shadow,omitempty"`
	// List is allow if that list decided.
	List policy.List `json:"list,omitempty"`
}

// check answers POST /v1/check.
func (c *checks) check(w http.ResponseWriter, r *http.Request) {
	data, err := readBody(w, r)
	if err != nil {
		writeProblem(w, err)
		return
	}
	q, err := decodeQuery(data)
	if err != nil {
		writeProblem(w, err)
		return
	}
	res, err := c.checker.Check(r.Context(), q)
	if err == nil {
		err = tooManyHits(q.Hits, &res)
	}
	now := time.Now()
	switch {
	case err != nil:
		writeProblem(w, c.failures.blame(err))
	case !res.Allowed:
		middleware.WriteDenied(w, r, c.dialect(), &res, now)
	default:
		answer := c.answer(&res, now)
		setHeaders(w, "application/json")
		c.dialect().Set(w.Header(), &res, now)
		_ = json.NewEncoder(w).Encode(answer) // a client that went away needs no answer; its lease expires
	}
}

func (c *checks) answer(res *limiter.Result, now time.Time) CheckAnswer {
	a := CheckAnswer{
		Allowed: true, Limit: res.Limit, Remaining: res.Remaining, Policy: res.Policy, Shadow: res.Shadow,
		WindowSeconds: res.Window.Seconds(), Delay: res.Delay.Seconds(), Lease: c.checker.LeaseToken(res),
	}
	if res.List != policy.ListNone {
		a.List = res.List
	}
	if res.Limit > 0 {
		a.Reset = middleware.ResetUnix(res, now)
	}
	return a
}

// tooManyHits is the error of a query that asks for more hits than a full bucket holds: no wait would do, so
// that it is no limit that was exceeded, but a mistake.
func tooManyHits(hits uint64, res *limiter.Result) error {
	if res.Allowed || res.RetryAfter != limiter.Never || res.List == policy.ListDeny || hits <= res.Burst {
		return nil
	}
	whose := "a full bucket"
	if res.Policy != limiter.OwnPolicy {
		whose += " of policy " + res.Policy
	}
	return badRequest("hits", fmt.Sprintf("asks for %d, and %s holds %d", hits, whose, res.Burst),
		fmt.Sprintf("ask for %d or fewer, or raise the burst", res.Burst))
}

// release answers POST /v1/release.
func (c *checks) release(w http.ResponseWriter, r *http.Request) {
	token, err := readLease(w, r)
	if err == nil {
		err = c.checker.ReleaseToken(token)
	}
	if err != nil {
		writeProblem(w, c.failures.blame(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func readLease(w http.ResponseWriter, r *http.Request) (token string, err error) {
	data, err := readBody(w, r)
	if err != nil {
		return "", err
	}
	return decodeLease(data)
}

func decodeLease(data []byte) (token string, err error) {
	var o object
	err = decodeObject(data, &o, func(name, path string, value []byte) {
		if name != "lease" {
			o.fault(path, "there is lease", "unknown field")
			return
		}
		o.text(path, value, &token)
	})
	if err == nil && token == "" {
		err = badRequest("lease", "is missing or empty", "send the lease that /v1/check answered with")
	}
	return token, err
}

// failures are the limiter's own. They are logged once in a while: of a limiter that fails, each of many
// requests hears.
type failures struct {
	log    *slog.Logger
	logged atomic.Int64  // when, in Unix nanoseconds
	n      atomic.Uint64 // since then
}

const failureEvery = 10 * time.Second

// blame makes of an error what the client is told: all of what is its own fault, else that the limiter failed.
func (f *failures) blame(err error) error {
	if isProblem(err) {
		return err
	}
	f.note(err)
	return NewProblem(http.StatusServiceUnavailable, "the limiter failed (the daemon's log says why)")
}

func isProblem(err error) bool {
	var p *Problem
	return errors.As(err, &p) || errors.Is(err, limiter.ErrQuery)
}

func (f *failures) note(err error) {
	f.n.Add(1)
	now, logged := time.Now().UnixNano(), f.logged.Load()
	if now-logged < int64(failureEvery) || !f.logged.CompareAndSwap(logged, now) {
		return
	}
	f.log.Error("the limiter failed", "error", err, "requests", f.n.Swap(0))
}

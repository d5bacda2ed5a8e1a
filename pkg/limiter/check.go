package limiter

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// MaxQueries is how many queries [Limiter.CheckAll] takes.
const MaxQueries = 1024

// CheckRateLimit charges one hit to the bucket of a key that holds limit tokens per window.
func (l *Limiter) CheckRateLimit(ctx context.Context, key string, limit uint64, window time.Duration) (Result, error) {
	return l.Check(ctx, Query{Key: key, Limit: limit, Window: window, Hits: 1})
}

// CheckRequest charges one hit to every policy that applies to a request. The key stands for the client
// where the request has no address.
func (l *Limiter) CheckRequest(ctx context.Context, key string, r *RequestContext) (Result, error) {
	if r == nil {
		return Result{}, l.bad(&QueryError{"context", "is missing", "say what is known of the request"})
	}
	return l.Check(ctx, Query{Key: key, Request: r, Hits: 1})
}

// Check decides over one query. The error is a [*QueryError]. What is decided in memory does not look at
// ctx, which takes longer than the decision; who asks a [Store] waits for it no longer than ctx lasts.
func (l *Limiter) Check(ctx context.Context, q Query) (r Result, err error) {
	if q.Request == nil {
		var one [1]charge // more room takes time to clear
		err = l.check(ctx, one[:0], &q, &r)
		return r, err
	}
	var few [fewCharges]charge
	err = l.check(ctx, few[:0], &q, &r)
	return r, err
}

func (l *Limiter) check(ctx context.Context, room []charge, q *Query, r *Result) error {
	t := l.timer()
	charges, err := l.charges(room, l.set.Load(), q, 0, r)
	if err != nil {
		*r = Result{}
		return l.bad(err)
	}
	allowed, by := l.decide(ctx, charges, l.nowFor(charges), r.List == policy.ListDeny)
	if r.List == policy.ListNone {
		result(charges, 0, r)
	}
	if q.Hits > 0 {
		r.lease.hold(charges, 0, q)
		count(charges)
		l.count(by, allowed, t)
	}
	return nil
}

// nowFor reads the clock while the table's entries of the charges are brought near: the one waits for nothing, and
// the others take as long in a table that no cache holds.
func (l *Limiter) nowFor(charges []charge) Instant {
	for i := range charges {
		l.table.Prefetch(charges[i].hash)
	}
	return l.now()
}

// CheckAll decides over several queries at once, by one set of policies: if one is denied, none is charged,
// and every result still says what would become of its own query after those before it. There are 1 to
// [MaxQueries] of them, and as many results. An error concerns the query whose index is returned with it.
func (l *Limiter) CheckAll(ctx context.Context, queries []Query, results []Result) (bad int, err error) {
	if len(queries) == 0 || len(queries) > MaxQueries || len(results) != len(queries) {
		return 0, &QueryError{"queries", fmt.Sprintf("there are %d, and %d results", len(queries), len(results)),
			fmt.Sprintf("ask 1 to %d, with a result for each", MaxQueries)}
	}
	var few [fewCharges]charge
	charges, set, t, denied, hits := few[:0], l.set.Load(), l.timer(), false, uint64(0)
	for i := range queries {
		results[i] = Result{}
		if charges, err = l.charges(charges, set, &queries[i], i, &results[i]); err != nil {
			clear(results)
			return i, l.bad(err)
		}
		denied = denied || results[i].List == policy.ListDeny
		hits |= queries[i].Hits
	}
	allowed, by := l.decide(ctx, charges, l.nowFor(charges), denied)
	for i := range queries {
		if results[i].List == policy.ListNone {
			result(charges, i, &results[i])
			results[i].lease.hold(charges, i, &queries[i])
		}
	}
	if hits > 0 {
		count(charges)
		l.count(by, allowed, t)
	}
	return 0, nil
}

// charges appends the buckets that a query asks to all. If a list decides instead, or nothing at all, r
// says so.
func (l *Limiter) charges(all []charge, set *ruleSet, q *Query, query int, r *Result) ([]charge, error) {
	r.List = policy.ListNone
	r.Allowed = true
	switch {
	case q.Rule != nil:
		if bad := checkText("key", q.Key, mayBeEmpty); bad != nil {
			return all, bad
		}
		return append(all, q.Rule.charge(q, query)), nil
	case q.Request != nil:
		return set.charges(all, q, query, r)
	}
	own, err := l.ownRule(q)
	if err != nil {
		return all, err
	}
	return append(all, own.charge(q, query)), nil
}

// charge is that of a rule that a query names, or brings.
func (r *Rule) charge(q *Query, query int) charge {
	c := charge{rule: r, hash: r.space.text(q.Key), hits: q.Hits, query: query, longest: q.longest()}
	if r.shared != nil {
		c.id = r.identifyText(q.Key)
	}
	return c
}

// charges is that for a query that the policies judge.
func (s *ruleSet) charges(all []charge, q *Query, query int, r *Result) ([]charge, error) {
	if bad := checkRequest(q); bad != nil {
		return all, bad
	}
	v := view{request: q.Request, client: q.Request.ClientIP.Unmap().WithZone(""), key: q.Key}
	if r.List = s.lists.judge(v.client); r.List != policy.ListNone {
		r.Allowed = r.List == policy.ListAllow
		if !r.Allowed {
			r.RetryAfter = Never
		}
		return all, nil
	}
	first := len(all)
	if s.asksEndpoint {
		v.endpoint = policy.CleanEndpoint(q.Request.Endpoint)
	}
	all = s.find(all, &v)
	for i := first; i < len(all); i++ {
		all[i].hits, all[i].query, all[i].longest = q.Hits, query, q.longest()
	}
	return all, nil
}

// timer knows when a decision began, if it is one that is timed.
type timer struct {
	stripe uint64
	weight uint64
	begun  bucket.Ticks
}

// timer begins a decision.
func (l *Limiter) timer() timer {
	t := timer{stripe: stripe() % totalStripes}
	before := l.totals[backendMemory].stripe[t.stripe].decisions()
	if l.store != nil { // else nothing is counted there
		before += l.totals[backendRedis].stripe[t.stripe].decisions() + l.totals[backendFallback].stripe[t.stripe].decisions()
	}
	if t.weight = weight(before); t.weight > 0 {
		t.begun = l.now().Ticks
	}
	return t
}

// count adds a decision to the totals.
func (l *Limiter) count(by backend, allowed bool, t timer) {
	to := &l.totals[by].stripe[t.stripe]
	to.count(allowed)
	if t.weight > 0 {
		to.time((l.now().Ticks - t.begun).Duration(), t.weight)
	}
}

// bad counts a query that can't be decided.
func (l *Limiter) bad(err error) error {
	l.invalid.Add(1)
	return err
}

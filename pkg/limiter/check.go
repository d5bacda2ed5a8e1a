package limiter

import (
	"context"
	"fmt"
	"time"

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
	return l.Check(ctx, Query{Key: key, Request: r, Hits: 1})
}

// Check decides over one query. The error is a [*QueryError]. What is decided in memory does not look at
// ctx, which takes longer than the decision.
func (l *Limiter) Check(_ context.Context, q Query) (r Result, err error) {
	var few [fewCharges]charge
	now := l.now()
	charges, err := l.charges(few[:0], &q, 0, &r)
	if err != nil || r.List != policy.ListNone {
		l.count(0, r.Allowed, err, now)
		return r, err
	}
	allowed := l.decide(charges, now)
	result(charges, 0, &r)
	if allowed {
		r.lease.hold(charges, 0)
	}
	if q.Hits > 0 {
		count(charges)
		l.count(spread(charges), allowed, nil, now)
	}
	return r, nil
}

// CheckAll decides over several queries at once: if one is denied, none is charged, and every result still
// says what would become of its own query. There are 1 to [MaxQueries] of them, and as many results. An
// error concerns the query whose index is returned with it.
func (l *Limiter) CheckAll(_ context.Context, queries []Query, results []Result) (bad int, err error) {
	if len(queries) == 0 || len(queries) > MaxQueries || len(results) != len(queries) {
		return 0, &QueryError{"queries", fmt.Sprintf("there are %d, and %d results", len(queries), len(results)),
			fmt.Sprintf("ask 1 to %d, with a result for each", MaxQueries)}
	}
	var few [fewCharges]charge
	charges, now, denied := few[:0], l.now(), false
	for i := range queries {
		results[i] = Result{}
		if charges, err = l.charges(charges, &queries[i], i, &results[i]); err != nil {
			return i, err
		}
		denied = denied || results[i].List == policy.ListDeny
	}
	if denied { // nothing may be charged: ask only
		for i := range charges {
			charges[i].hits = 0
		}
	}
	allowed := l.decide(charges, now) && !denied
	for i := range queries {
		if results[i].List == policy.ListNone {
			result(charges, i, &results[i])
			if allowed {
				results[i].lease.hold(charges, i)
			}
		}
	}
	count(charges)
	l.count(spread(charges), allowed, nil, now)
	return 0, nil
}

// charges appends the buckets that a query asks to all. If a list decides instead, or nothing at all, r
// says so.
func (l *Limiter) charges(all []charge, q *Query, query int, r *Result) ([]charge, error) {
	r.List = policy.ListNone
	r.Allowed = true
	switch {
	case q.Rule != nil:
		if bad := checkText("key", q.Key, mayBeEmpty); bad != nil {
			return all, bad
		}
		return append(all, charge{rule: q.Rule, hash: q.Rule.space.text(q.Key), hits: q.Hits, query: query, longest: q.longest()}), nil
	case q.Request != nil:
		return l.requestCharges(all, q, query, r)
	}
	own, err := l.ownRule(q)
	if err != nil {
		return all, err
	}
	return append(all, charge{rule: own, hash: own.space.text(q.Key), hits: q.Hits, query: query, longest: q.longest()}), nil
}

func (l *Limiter) requestCharges(all []charge, q *Query, query int, r *Result) ([]charge, error) {
	set := l.set.Load()
	if bad := checkRequest(q); bad != nil {
		return all, bad
	}
	if r.List = set.lists.judge(q.Request.ClientIP); r.List != policy.ListNone {
		r.Allowed = r.List == policy.ListAllow
		if !r.Allowed {
			r.RetryAfter = Never
		}
		return all, nil
	}
	first := len(all)
	v := view{request: q.Request, key: q.Key, endpoint: policy.CleanEndpoint(q.Request.Endpoint)}
	all = set.find(all, &v)
	for i := first; i < len(all); i++ {
		all[i].hits, all[i].query, all[i].longest = q.Hits, query, q.longest()
	}
	return all, nil
}

// spread is a number by which to choose a stripe of the totals.
func spread(charges []charge) uint64 {
	if len(charges) == 0 {
		return 0
	}
	return charges[0].hash
}

// count adds a decision to the totals.
func (l *Limiter) count(hash uint64, allowed bool, err error, since Instant) {
	if err != nil {
		l.invalid.Add(1)
		return
	}
	l.totals.observe(hash, allowed, (l.now().Ticks - since.Ticks).Duration())
}

package main

import (
	"context"
	"errors"

	"github.com/weir-limiter/weir/pkg/policy"
)

// askers are how many goroutines share a pool of connections, as a server's requests do.
const askers = 32

// strictTask is how many ask for how many keys.
type strictTask struct {
	task          string
	keys, workers int
}

// strictChecks measures a round trip for each decision: beside what the way to Redis costs by itself, and beside the limiter that
// people use with go-redis.
func strictChecks(ctx context.Context, o options, r *report) error {
	return withRedis(ctx, func(s *redisServer) error {
		for _, t := range []strictTask{
			{"strict, 10 000 keys", 10_000, askers},
			{"strict, 1 key", 1, askers},
			{"strict, 10 000 keys, one check at a time", 10_000, 1},
		} {
			if err := strictOf(ctx, s, t, o, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func strictOf(ctx context.Context, s *redisServer, t strictTask, o options, r *report) (err error) {
	pool := s.client(poolSize)
	defer func() { err = errors.Join(err, pool.Close()) }()
	weir, err := newSharedWeir(ctx, nameStrict, s, policy.ConsistencyStrict)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, weir.stop()) }()
	k := newKeys(t.keys)
	all := []*contender{
		&weir.contender, newScript(nameBare, bareScript, pool, k), newScript(nameClocked, clockedScript, pool, k), newRedisRate(pool, k),
	}
	done, err := measureTimed(all, t.keys, t.workers, o)
	if err != nil {
		return err
	}
	for _, c := range all {
		r.rates(t.task, c.name, ratesOf(done[c.name]))
	}
	beside := func(name string) float64 { return ratio(ratesOf(done[nameStrict]), ratesOf(done[name])) }
	if t.workers > 1 {
		r.atLeast(t.task, nameStrict+" / "+nameBare, beside(nameBare), "ratio", 0.8)
		r.atLeast(t.task, nameStrict+" / "+nameRedisRate, beside(nameRedisRate), "ratio", 1)
	} else {
		r.shown(t.task, nameStrict+" / "+nameBare, beside(nameBare), "ratio")
		r.shown(t.task, nameStrict+" / "+nameRedisRate, beside(nameRedisRate), "ratio")
	}
	r.shown(t.task, nameStrict+" / "+nameClocked, beside(nameClocked), "ratio")
	for _, c := range all {
		r.shown(t.task, c.name+", 99 % within", median(done[c.name], p99), "ns")
	}
	weir.report(t.task, r)
	return nil
}

// report says how much of what was measured was decided without Redis, which would make it worth little.
func (w *sharedWeir) report(task string, r *report) {
	d := decisionsBy(w.limiter.Counters().Backends)
	r.atMost(task, w.name+", decided without Redis, of 1 000", 1000*d.without/d.all, "count", 1)
}

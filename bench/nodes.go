package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

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
	all, without := w.decided()
	r.atMost(task, w.name+", decided without Redis, of 1 000", 1000*without/all, "count", 1)
}

// rlsBesideEnvoy measures weir, its policies leased, beside the server that Envoy's users run, with one Redis by loopback.
func rlsBesideEnvoy(ctx context.Context, o options, r *report) error {
	return withRedis(ctx, func(s *redisServer) (err error) {
		var all []*server
		defer func() {
			for _, server := range all {
				err = errors.Join(err, server.stop())
			}
		}()
		if all, err = rlsServers(ctx, o, s); err != nil {
			return err
		}
		for _, t := range []struct {
			task string
			of   descriptors
		}{
			{"RLS, 1 000 keys", users(1000)},
			{"RLS, 10 000 keys", users(10_000)},
			{"RLS, 1 key", users(1)},
			{"RLS, 1 key, over its limit", descriptors{"remote_address", []string{"192.0.2.7"}, ratelimit.RateLimitResponse_OVER_LIMIT}},
		} {
			if err := warm(ctx, t.of, all, o.each/2); err != nil {
				return fmt.Errorf("%s: %w", t.task, err)
			}
			costs := map[*server]*cost{}
			ask := rlsLoad(t.of)
			if os.Getenv("LEAN") != "" {
				ask = leanLoad(t.of)
			}
			rates, err := measureServers(ctx, costing(ask, s, costs), all, o)
			if err != nil {
				return fmt.Errorf("%s: %w", t.task, err)
			}
			for i, server := range all {
				r.rates(t.task, server.name, rates[i])
				r.shown(t.task, server.name+", processor time for each answer, with Redis'", costs[server].each(), "ns")
			}
		}
		return nil
	})
}

// warm lets every server meet the callers, and spend what those have who are to be over their limits.
func warm(ctx context.Context, of descriptors, all []*server, d time.Duration) error {
	of.code = ratelimit.RateLimitResponse_UNKNOWN
	for _, s := range all {
		if _, err := rlsLoad(of)(ctx, s, d); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func users(n int) descriptors {
	return descriptors{"user", newKeys(n).names, ratelimit.RateLimitResponse_OK}
}

func rlsServers(ctx context.Context, o options, s *redisServer) (all []*server, err error) {
	binary, err := buildEnvoy(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	for i, settings := range [][]string{
		{"LOCAL_CACHE_SIZE_IN_BYTES=1048576"},
		{"LOCAL_CACHE_SIZE_IN_BYTES=1048576", "REDIS_POOL_SIZE=1"},
		{"LOCAL_CACHE_SIZE_IN_BYTES=1048576", "REDIS_POOL_SIZE=2"},
		{"LOCAL_CACHE_SIZE_IN_BYTES=1048576", "REDIS_POOL_SIZE=4"},
	} {
		dir := filepath.Join(s.dir, fmt.Sprint("envoy", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return all, err
		}
		e, err := startEnvoy(ctx, binary, dir, s, settings...)
		if err != nil {
			return all, err
		}
		e.name += fmt.Sprint(settings)
		all = append(all, e)
	}
	dir := filepath.Join(s.dir, "weir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return all, err
	}
	w, err := startWeir(ctx, o.weir, dir, sharedWeirFile)
	if err != nil {
		return all, err
	}
	return append(all, w), nil
}

// sharedWeirFile has weir share its limits by leases.
const sharedWeirFile = `server:
  http: %s
  grpc: %s
policies:
  - {name: per-user, scope: per_user, limit: 100000000, window: 1s}
  - {name: per-address, scope: per_ip, layer: l7, limit: 100, window: 1h}
`

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// sharedWeirFile has weir share its limits by leases, through a Redis.
const sharedWeirFile = `server:
  http: %%s
  grpc: %%s
redis: {url: "redis://%s", command_timeout: %v}
policies:
  - {name: per-user, scope: per_user, limit: 100000000, window: 1s, consistency: leased}
  - {name: per-address, scope: per_ip, layer: l7, limit: 100, window: 1h, consistency: leased}
`

// The settings that envoyproxy/ratelimit is measured with: what its README calls the default, and what is fastest here. Its client
// writes together what several calls have for one connection, so one connection is faster than ten, and a cache
// keeps it from asking Redis of what it knows to be over its limit. REDIS_PIPELINE_WINDOW does nothing: the client of this
// version heeds it with a Redis Cluster alone.
var envoySettings = []struct {
	name     string
	settings []string
}{
	{nameEnvoy, []string{fmt.Sprintf("REDIS_POOL_SIZE=%d", poolSize)}},
	{nameEnvoyTuned, []string{"REDIS_POOL_SIZE=1", "LOCAL_CACHE_SIZE_IN_BYTES=1048576", "REDIS_PIPELINE_WINDOW=150us"}},
}

// rlsTask is what all servers are asked for.
type rlsTask struct {
	task string
	of   descriptors
	ask  func(descriptors) load
	// target is what weir's throughput is to be of the faster of the others'; 0: there is none.
	target float64
}

// rlsBesideEnvoy measures weir, its policies leased, beside the server that Envoy's users run, with one Redis by loopback.
func rlsBesideEnvoy(ctx context.Context, o options, r *report) error {
	over := descriptors{"remote_address", []string{"192.0.2.7"}, ratelimit.RateLimitResponse_OVER_LIMIT}
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
		for _, t := range []rlsTask{
			{"RLS, 1 key", users(1), leanLoad, 2.5},
			{"RLS, 1 000 keys", users(1000), leanLoad, 2.5},
			{"RLS, 1 000 keys, by grpc-go's client", users(1000), rlsLoad, 0},
			{"RLS, 10 000 keys", users(10_000), leanLoad, 0},
			{"RLS, 1 key over its limit", over, leanLoad, 0},
		} {
			if err := t.measure(ctx, o, s, all, r); err != nil {
				return fmt.Errorf("%s: %w", t.task, err)
			}
		}
		return nil
	})
}

func users(n int) descriptors {
	return descriptors{"user", newKeys(n).names, ratelimit.RateLimitResponse_OK}
}

// rlsServers starts weir, and the other with each of its settings.
func rlsServers(ctx context.Context, o options, s *redisServer) (all []*server, err error) {
	binary, err := buildEnvoy(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "weir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	w, err := startWeir(ctx, o.weir, dir, fmt.Sprintf(sharedWeirFile, s.tcp, patience))
	if err != nil {
		return nil, err
	}
	w.name = nameSharedRLS
	all = append(all, w)
	for i, settings := range envoySettings {
		dir := filepath.Join(s.dir, fmt.Sprint("envoy", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return all, err
		}
		e, err := startEnvoy(ctx, binary, dir, s, settings.settings...)
		if err != nil {
			return all, err
		}
		e.name = settings.name
		all = append(all, e)
	}
	return all, nil
}

func (t *rlsTask) measure(ctx context.Context, o options, s *redisServer, all []*server, r *report) error {
	ask, weir, costs := t.ask(t.of), all[0], map[*server]*cost{}
	if err := t.warm(ctx, all, o); err != nil {
		return err
	}
	before, err := decisionsOf(weir)
	if err != nil {
		return err
	}
	rates, err := measureServers(ctx, costing(ask, s, costs), all, o)
	if err != nil {
		return err
	}
	after, err := decisionsOf(weir)
	if err != nil {
		return err
	}
	for i, server := range all {
		r.rates(t.task, server.name, rates[i])
	}
	for i, server := range all[1:] {
		what, value := nameSharedRLS+" / "+server.name, ratio(rates[0], rates[i+1])
		if t.target > 0 {
			r.atLeast(t.task, what, value, "ratio", t.target)
		} else {
			r.shown(t.task, what, value, "ratio")
		}
	}
	for _, server := range all {
		r.shown(t.task, server.name+" and Redis, processor time an answer", costs[server].each(), "ns")
	}
	r.atMost(t.task, nameSharedRLS+", decided without Redis, of 1 000", 1000*(after.without-before.without)/(after.all-before.all), "count", 1)
	return nil
}

// warm lets every server meet the callers, and spend what those have who are to be over their limits.
func (t *rlsTask) warm(ctx context.Context, all []*server, o options) error {
	of := t.of
	of.code = ratelimit.RateLimitResponse_UNKNOWN
	for _, s := range all {
		if _, err := t.ask(of)(ctx, s, o.each/2); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// decisions are how many there were, and how many of them without Redis, which was too slow or away.
type decisions struct{ all, without float64 }

func decisionsBy(all []limiter.BackendStats) (d decisions) {
	for _, b := range all {
		n := float64(b.Allowed + b.Exceeded)
		d.all += n
		if b.Backend != limiter.BackendRedis {
			d.without += n
		}
	}
	return d
}

// decisionsOf are a daemon's.
func decisionsOf(s *server) (decisions, error) {
	resp, err := http.Get("http://" + s.http + "/v1/stats")
	if err != nil {
		return decisions{}, fmt.Errorf("ask %s for its counts: %w", s.name, err)
	}
	defer resp.Body.Close()
	var stats limiter.Stats
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		return decisions{}, fmt.Errorf("the counts of %s: %w", s.name, err)
	}
	return decisionsBy(stats.Backends), nil
}

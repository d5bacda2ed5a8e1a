package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/weir-limiter/weir/internal/bench"
	"github.com/weir-limiter/weir/pkg/policy"
)

// perCore is how many checks a second a core is to decide, and what it decides under the steady load.
const perCore = 100_000

// leasedChecks measures decisions by leases: as many as the cores can make, beside those of a policy that asks nobody, and a steady
// load, with what it asks of Redis.
func leasedChecks(ctx context.Context, o options, r *report) error {
	return withRedis(ctx, func(s *redisServer) error {
		for _, keys := range []int{1000, 10_000} {
			if err := leasedOf(ctx, s, keys, o, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func leasedOf(ctx context.Context, s *redisServer, keys int, o options, r *report) (err error) {
	task, cores := fmt.Sprintf("leased, %d keys", keys), runtime.GOMAXPROCS(0)
	weir, err := newSharedWeir(ctx, nameLeased, s, policy.ConsistencyLeased)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, weir.stop()) }()
	local, err := newLocalWeir()
	if err != nil {
		return err
	}
	if _, err := timeChecks(&weir.contender, keys, cores, 0, settle); err != nil {
		return err
	}
	all := []*contender{&weir.contender, local}
	done, err := measureTimed(all, keys, cores, o)
	if err != nil {
		return err
	}
	for _, c := range all {
		r.rates(task, c.name, perCoreOf(done[c.name], cores))
	}
	r.atLeast(task, nameLeased+", of each core", bench.Summarise(perCoreOf(done[nameLeased], cores)).Median, "/s", perCore)
	r.atMost(task, nameLeased+", 99 % within", median(done[nameLeased], p99), "ns", 20_000)
	r.shown(task, nameLeased+", 99.9 % within", median(done[nameLeased], p999), "ns")
	r.shown(task, nameLeased+" / "+nameLocal, ratio(ratesOf(done[nameLeased]), ratesOf(done[nameLocal])), "ratio")
	if err := steady(ctx, s, weir, task, keys, o, r); err != nil {
		return err
	}
	weir.report(task, r)
	return nil
}

// steady measures a load that does not change: how long decisions take, and what Redis is asked meanwhile, by its own count.
func steady(ctx context.Context, s *redisServer, weir *sharedWeir, task string, keys int, o options, r *report) error {
	cores := runtime.GOMAXPROCS(0)
	task = fmt.Sprintf("%s, %d checks/s a core", task, perCore)
	if _, err := timeChecks(&weir.contender, keys, cores, time.Second/perCore, settle); err != nil {
		return err
	}
	before, err := s.operations(ctx)
	if err != nil {
		return err
	}
	ops := weir.sharer.Figures().Ops
	l, err := timeChecks(&weir.contender, keys, cores, time.Second/perCore, time.Duration(o.rounds)*o.each)
	if err != nil {
		return err
	}
	ops = weir.sharer.Figures().Ops - ops
	after, err := s.operations(ctx)
	if err != nil {
		return err
	}
	each := func(n float64) float64 { return 1000 * n / float64(l.Checks) }
	r.atMost(task, "99 % within", float64(l.P99), "ns", 20_000)
	r.shown(task, "99.9 % within", float64(l.P999), "ns")
	r.atLeast(task, "checks, of each core", l.rate()/float64(cores), "/s", 0.99*perCore)
	r.atMost(task, "commands that Redis got, of 1 000 checks", each(after.asked-before.asked), "count", 20)
	r.shown(task, "operations on buckets in them", each(float64(ops)), "count")
	r.shown(task, "commands that their scripts ran", each(after.inside-before.inside), "count")
	return nil
}

// settle is how long leases take to find out how large they should be.
const settle = 3 * time.Second

func perCoreOf(all []latencies, cores int) []float64 {
	rates := ratesOf(all)
	for i := range rates {
		rates[i] /= float64(cores)
	}
	return rates
}

package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/internal/bench"
)

// What is asked of Redis for each check, and by whom.
const (
	nameBare      = "bare EVALSHA"
	nameClocked   = "EVALSHA: TIME, HSET"
	nameRedisRate = "go-redis/redis_rate"
	nameStrict    = "weir, strict"
	nameLeased    = "weir, leased"
	nameLocal     = "weir, local"
)

// limitShared is more than anybody asks for here, so that every check takes a token.
const limitShared = 100_000_000

// bareScript does nothing: what is left is the way to Redis and back. clockedScript reads and writes what a limiter at least
// has to.
const (
	bareScript    = `return 1`
	clockedScript = `local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 't', t[1] .. t[2])
return 1`
)

// newScript makes the contender that runs a script for each check.
func newScript(name, text string, pool *redis.Client, k *keys) *contender {
	script := redis.NewScript(text)
	return &contender{name, func(_ *worker, i int) (bool, error) {
		n, err := script.Run(context.Background(), pool, []string{k.names[i]}).Int()
		return n == 1, err
	}}
}

func newRedisRate(pool *redis.Client, k *keys) *contender {
	l, limit := redis_rate.NewLimiter(pool), redis_rate.PerSecond(limitShared)
	return &contender{nameRedisRate, func(_ *worker, i int) (bool, error) {
		r, err := l.Allow(context.Background(), k.names[i], limit)
		if err != nil {
			return false, err
		}
		return r.Allowed == 1, nil
	}}
}

// measureTimed lets contenders take turns with so many workers, and returns what each did in each round.
func measureTimed(all []*contender, keys, workers int, o options) (map[string][]latencies, error) {
	for _, c := range all { // scripts are loaded, connections made
		if _, err := timeChecks(c, keys, workers, 0, o.each/4); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	done := map[string][]latencies{}
	for round := range o.rounds {
		for i := range all {
			c := all[(i+round)%len(all)]
			runtime.GC()
			l, err := timeChecks(c, keys, workers, 0, o.each)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			done[c.name] = append(done[c.name], l)
		}
	}
	return done, nil
}

// ratesOf are checks per second, by round.
func ratesOf(all []latencies) []float64 {
	rates := make([]float64, len(all))
	for i := range all {
		rates[i] = all[i].rate()
	}
	return rates
}

// median is that of a quantile over the rounds.
func median(all []latencies, quantile func(*latencies) time.Duration) float64 {
	out := make([]float64, len(all))
	for i := range all {
		out[i] = float64(quantile(&all[i]))
	}
	return bench.Summarise(out).Median
}

func p99(l *latencies) time.Duration  { return l.P99 }
func p999(l *latencies) time.Duration { return l.P999 }

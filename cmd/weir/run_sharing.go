package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/fallback"
	"github.com/weir-limiter/weir/pkg/limiter"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

const (
	// rampAfter is how long it takes until all keys go to Redis again after it was away: it has just loaded what it has,
	// and all nodes come at once.
	rampAfter = 300 * time.Millisecond
	// slowTimeout is that of commands which no decision waits for.
	slowTimeout = 2 * time.Second
	// slowConnections are enough for heartbeats, policies, and who asks about them.
	slowConnections = 3
)

// sharing is the part of the daemon that shares counts with other nodes. A daemon whose file has no redis has none.
type sharing struct {
	log     *slog.Logger
	name    string // this node's
	config  config.Redis
	redis   *ratesync.Redis       // that decisions wait for
	slow    redis.UniversalClient // that none does
	guard   *fallback.Guard
	webhook *fallback.Webhook // nil: nobody is told
	members *ratesync.Membership
	sharer  *ratesync.Sharer
	kernel  *sharedKernel // nil: the daemon has nothing to do with packets
	opened  time.Time
}

var _ ratesync.Gate = (*sharing)(nil)

// openSharing makes what shares counts, and asks nothing of Redis yet: it may be away. nil without redis.
func openSharing(c *config.Config, log *slog.Logger) (_ *sharing, err error) {
	if c.Redis == nil {
		return nil, nil
	}
	s := &sharing{log: log, config: *c.Redis, opened: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	o, err := redisOptions(c.Redis)
	if err != nil {
		return nil, err
	}
	if s.redis, err = ratesync.Open(o); err != nil {
		return nil, err
	}
	o.CommandTimeout, o.PoolSize = max(slowTimeout, o.CommandTimeout), slowConnections
	if s.slow, err = ratesync.NewClient(o); err != nil {
		return nil, err
	}
	if err = s.openSharer(c.Redis); err != nil {
		return nil, err
	}
	return s, s.openGuard(c)
}

// openSharer makes this node one of many.
func (s *sharing) openSharer(r *config.Redis) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this node: %w", err)
	}
	s.name = ratesync.NewNodeName(host)
	s.sharer, err = ratesync.NewSharer(ratesync.SharerOptions{
		Executor: s.redis, Gate: s, Node: s.name, LeaseShare: r.LeaseShare, CommandTimeout: r.CommandTimeout,
		Workers: int(r.PoolSize), Health: s.health,
	})
	if err != nil {
		return err
	}
	s.members, err = ratesync.NewMembership(ratesync.MembershipOptions{
		Client: s.slow, Key: s.redis.Key, Name: s.name, TTL: r.DefaultTTL, OnBeat: s.sharer.Beat, OnMiss: func() { s.guard.Suspect() }, Report: s.reportAll, Log: s.log,
	})
	return err
}

// reportAll tells a Redis that has none of its data, or is new to this node, all that is known here of its buckets.
func (s *sharing) reportAll(ctx context.Context) error {
	s.sharer.Lost()
	return s.sharer.Recover(ctx)
}

// openGuard makes what decides whether Redis is asked.
func (s *sharing) openGuard(c *config.Config) (err error) {
	f := c.Fallback
	o := fallback.Options{
		Probe: s.members.Beat, Recover: s.sharer.Recover, IsFailure: isStoreFailure,
		Failures: f.Breaker.Failures, OpenFor: f.Breaker.OpenFor, HalfOpenRequests: f.Breaker.HalfOpenRequests,
		Interval: f.HealthCheckInterval, Ramp: rampAfter, Instance: s.name, Log: s.log,
	}
	if a := f.Alert; a != nil {
		s.webhook, err = fallback.NewWebhook(fallback.WebhookOptions{
			URL: string(a.Webhook), Timeout: a.Timeout, Tries: uint(a.Tries), Log: s.log,
		})
		if err != nil {
			return fmt.Errorf("fallback.alert: %w", err)
		}
		o.Alert = s.webhook.Notify
	}
	s.guard, err = fallback.New(o)
	return err
}

// isStoreFailure tells which errors say something of Redis, and not of a bucket.
func isStoreFailure(err error) bool {
	return !errors.Is(err, ratesync.ErrState) && fallback.IsFailure(err)
}

func (s *sharing) health() limiter.StoreHealth {
	g := s.guard.State()
	return limiter.StoreHealth{
		Available: g.Available && s.members.Granting(), ConsecutiveFailures: g.ConsecutiveFailures, Breaker: g.Breaker, Since: g.Since,
	}
}

// Ready tells whether decisions may ask Redis: it answers, and what it says is what all nodes know.
func (s *sharing) Ready() bool { return s.guard.Ready() && s.members.Granting() }

// Admits tells whether a bucket is among those that go to Redis.
func (s *sharing) Admits(hash uint64) bool { return s.guard.Admits(hash) }

// Do calls Redis through the breaker.
func (s *sharing) Do(ctx context.Context, call func(context.Context) error) error {
	return s.guard.Do(ctx, call)
}

// makePolicyCache makes the directory of the file that keeps the cluster's policies. That the one which nobody has named can't be
// made is no reason not to start: the daemon runs as any user.
func makePolicyCache(c *config.Config, log *slog.Logger) error {
	if c.Fallback.PolicyCache == "" {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(c.Fallback.PolicyCache), 0o755)
	if err == nil {
		return nil
	}
	err = fmt.Errorf(`fallback.policy_cache: %w (name a file where weir may write, or "" to keep none)`, err)
	if c.Fallback.PolicyCache != config.DefaultPolicyCache(c.Redis.KeyPrefix) {
		return err
	}
	log.Warn("the cluster's policies can't be kept on disk, and a start without Redis will not have them", "error", err)
	return nil
}

// run shares counts until ctx ends. The heartbeats end last: a probe of the guard's would tell the others that this node is
// there again, and until then its leases are handed back.
func (s *sharing) run(ctx context.Context) error {
	all := []func(context.Context) error{s.guard.Run, s.sharer.Run}
	if s.webhook != nil {
		all = append(all, s.webhook.Run)
	}
	if s.kernel != nil {
		all = append(all, s.kernel.Run)
	}
	beating, end := context.WithCancel(context.WithoutCancel(ctx))
	beats := make(chan error, 1)
	go func() { beats <- s.members.Run(beating) }()
	g, ctx := errgroup.WithContext(ctx)
	for _, component := range all {
		g.Go(func() error { return component(ctx) })
	}
	err := g.Wait()
	end()
	return errors.Join(err, <-beats)
}

// close ends all connections.
func (s *sharing) close() error {
	var errs []error
	if s.redis != nil {
		errs = append(errs, s.redis.Close())
	}
	if s.slow != nil {
		errs = append(errs, s.slow.Close())
	}
	return errors.Join(errs...)
}

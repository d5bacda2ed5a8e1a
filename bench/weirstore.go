package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/pkg/fallback"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// patience is the command timeout of weir's here. Its default, 10 ms, is less than what a busy machine keeps a process waiting for a
// processor, and what is decided without Redis is not what is measured.
const patience = time.Second

// sharedWeir is weir in this process as one node, with a Redis, a breaker before it, and heartbeats.
type sharedWeir struct {
	contender
	*fallback.Guard
	limiter *limiter.Limiter
	members *ratesync.Membership
	sharer  *ratesync.Sharer
	store   *ratesync.Redis       // that decisions wait for
	slow    redis.UniversalClient // that none does
	// The sharer ends first: what it hands back goes through the breaker.
	sharing, rest running
}

// running are components that run until they are told to end.
type running struct {
	ctx    context.Context
	cancel context.CancelFunc
	group  *errgroup.Group
}

func newRunning(ctx context.Context) running {
	ctx, cancel := context.WithCancel(ctx)
	return running{ctx, cancel, &errgroup.Group{}}
}

func (r *running) begin(run func(context.Context) error) {
	r.group.Go(func() error { return run(r.ctx) })
}

func (r *running) end() error {
	r.cancel()
	return r.group.Wait()
}

// newSharedWeir makes one with a policy for each user.
func newSharedWeir(ctx context.Context, name string, s *redisServer, consistency policy.Consistency) (*sharedWeir, error) {
	o := ratesync.Options{URLs: []string{"unix://" + s.socket}, PoolSize: poolSize, CommandTimeout: patience}
	store, err := ratesync.Open(o)
	if err != nil {
		return nil, err
	}
	o.CommandTimeout = time.Second
	slow, err := ratesync.NewClient(o)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	w := &sharedWeir{contender: contender{name: name}, store: store, slow: slow, sharing: newRunning(ctx), rest: newRunning(ctx)}
	if err := w.start(ctx, consistency); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

func (w *sharedWeir) start(ctx context.Context, consistency policy.Consistency) error {
	quiet := slog.New(slog.DiscardHandler)
	node := ratesync.NewNodeName("bench")
	var err error
	w.sharer, err = ratesync.NewSharer(ratesync.SharerOptions{Executor: w.store, Gate: w, Node: node, CommandTimeout: patience, Workers: poolSize})
	if err != nil {
		return err
	}
	w.members, err = ratesync.NewMembership(ratesync.MembershipOptions{
		Client: w.slow, Key: w.store.Key, Name: node, OnBeat: w.sharer.Beat, Report: w.sharer.Recover, Log: quiet,
	})
	if err != nil {
		return err
	}
	w.Guard, err = fallback.New(fallback.Options{Probe: w.members.Beat, Recover: w.sharer.Recover, Log: quiet})
	if err != nil {
		return err
	}
	if w.limiter, err = limiter.New(limiter.Options{Store: w.sharer}); err != nil {
		return err
	}
	if w.check, err = checkUsers(w.limiter, consistency); err != nil {
		return err
	}
	w.rest.begin(w.Guard.Run)
	w.rest.begin(w.members.Run)
	w.sharing.begin(w.sharer.Run)
	return w.ready(ctx)
}

// checkUsers gives a limiter a policy for each user.
func checkUsers(l *limiter.Limiter, consistency policy.Consistency) (check, error) {
	one := policy.Policy{Name: "per-user", Scope: policy.ScopePerUser, Limit: limitShared, Window: window, Consistency: consistency}
	return func(w *worker, i int) (bool, error) {
		r, err := l.CheckRequest(context.Background(), "", w.ask(i))
		return r.Allowed, err
	}, l.Replace(policy.Document{Policies: []policy.Policy{one.WithDefaults()}})
}

// newLocalWeir is weir with the same policy that asks nobody.
func newLocalWeir() (*contender, error) {
	l, err := limiter.New(limiter.Options{})
	if err != nil {
		return nil, err
	}
	check, err := checkUsers(l, policy.ConsistencyLocal)
	return &contender{nameLocal, check}, err
}

// ready waits until Redis decides, and leases are granted: from a node's second heartbeat on.
func (w *sharedWeir) ready(ctx context.Context) error {
	for deadline := time.Now().Add(10 * time.Second); !w.Ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s does not find Redis: %+v", w.name, w.Guard.State())
		}
	}
	return w.members.Beat(ctx)
}

// Ready tells whether Redis may be asked, as in the daemon.
func (w *sharedWeir) Ready() bool { return w.Guard.Ready() && w.members.Granting() }

// stop hands leases back, and ends.
func (w *sharedWeir) stop() error {
	if err := w.sharing.end(); err != nil { // it changes no figure
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	return errors.Join(w.rest.end(), w.store.Close(), w.slow.Close())
}

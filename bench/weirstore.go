package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// beatInterval is how often a node says that it is alive.
const beatInterval = time.Second

// sharedWeir is weir in this process as one node, with a Redis, a breaker before it, and heartbeats.
type sharedWeir struct {
	contender
	limiter *limiter.Limiter
	sharer  *ratesync.Sharer
	store   *ratesync.Redis
	gate    *fallback.Guard
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
	store, err := ratesync.Open(ratesync.Options{URLs: []string{"unix://" + s.socket}, PoolSize: poolSize})
	if err != nil {
		return nil, err
	}
	w := &sharedWeir{contender: contender{name: name}, store: store, sharing: newRunning(ctx), rest: newRunning(ctx)}
	if err := w.start(ctx, consistency); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

func (w *sharedWeir) start(ctx context.Context, consistency policy.Consistency) error {
	probe := func(ctx context.Context) error {
		return w.store.Client().Set(ctx, w.store.Key("probe"), 1, time.Minute).Err()
	}
	gate, err := fallback.New(fallback.Options{
		Probe: probe, Recover: func(ctx context.Context) error { return w.sharer.Recover(ctx) }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	if w.sharer, err = ratesync.NewSharer(ratesync.SharerOptions{Executor: w.store, Gate: gate, Node: "bench-" + w.name, Workers: poolSize}); err != nil {
		return err
	}
	if w.limiter, err = limiter.New(limiter.Options{Store: w.sharer}); err != nil {
		return err
	}
	if w.check, err = checkUsers(w.limiter, consistency); err != nil {
		return err
	}
	w.gate = gate
	w.rest.begin(gate.Run)
	w.rest.begin(w.beat)
	w.sharing.begin(w.sharer.Run)
	return w.ready(ctx, gate)
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

// beat keeps the node's leases good: a round trip a second, as the daemon's heartbeat is. A node leases from the second on.
func (w *sharedWeir) beat(ctx context.Context) error {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	for beats := 0; ; beats++ {
		sent := time.Now()
		err := w.store.Client().ZAdd(ctx, w.store.Key("nodes"), redis.Z{Score: float64(sent.UnixMilli()), Member: w.name}).Err()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			w.sharer.Beat(time.Since(sent), 1)
		}
		if beats == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ready waits until Redis decides.
func (w *sharedWeir) ready(ctx context.Context, gate *fallback.Guard) error {
	for deadline := time.Now().Add(10 * time.Second); !gate.Ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s does not find Redis: %+v", w.name, gate.State())
		}
	}
	return nil
}

// decided is how many decisions there were by now, and how many of them without Redis, which was too slow or away.
func (w *sharedWeir) decided() (all, without float64) {
	for _, b := range w.limiter.Counters().Backends {
		n := float64(b.Allowed + b.Exceeded)
		all += n
		if b.Backend != limiter.BackendRedis {
			without += n
		}
	}
	return all, without
}

// stop hands leases back, and ends.
func (w *sharedWeir) stop() error {
	println(fmt.Sprintf("%+v %+v", w.gate.State(), w.sharer.Figures()))
	if err := w.sharing.end(); err != nil { // it changes no figure
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	return errors.Join( w.rest.end(), w.store.Close())
}

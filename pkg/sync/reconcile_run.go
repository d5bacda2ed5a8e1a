package ratesync

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

const (
	// announceQueue is how many announcements wait for a round to end.
	announceQueue = 4096
	// reportsPerCall keeps a call short, of which Redis does nothing else meanwhile.
	reportsPerCall = 256
)

// ReconcileGate says whether the store is to be asked. The breaker of package fallback is one.
type ReconcileGate interface {
	// Ready tells whether a call would be made.
	Ready() bool
	// Do makes a call and learns from how it went, or refuses to.
	Do(ctx context.Context, call func(context.Context) error) error
}

// ReconcileOptions are what a [Reconciling] needs. All but Errors are required.
type ReconcileOptions[S any] struct {
	Core     *Reconciler[S]
	Executor Executor
	Gate     ReconcileGate
	Node     string
	Nodes    func() int           // how many there are
	Clock    func() bucket.Ticks  // the table's
	Timeout  time.Duration        // of a call: command_timeout
	Errors   func(ReconcileError) // hears of buckets for which the store has something else
}

// ReconcileError says that the store could not count a source of a policy.
type ReconcileError struct {
	Policy *ReconciledPolicy
	Err    error
}

// Reconciling runs a [Reconciler] against a store. Its methods may be called by several goroutines at once.
type Reconciling[S any] struct {
	o         ReconcileOptions[S]
	announced chan announcement[S]
	commands  chan func()
	replies   []Reply

	mu    sync.Mutex
	stats ReconcilingStats
}

type announcement[S any] struct {
	source Source[S]
	used   uint64
}

// ReconcilingStats are a reconciler's, and those of its rounds.
type ReconcilingStats struct {
	ReconcileStats
	Rounds  uint64
	Failed  uint64        // rounds of which a call failed
	Away    uint64        // rounds without the store
	Dropped uint64        // announcements that nobody was quick enough to take
	Lag     time.Duration // since the last round that reached the store; 0 if the last one did
}

// NewReconciling makes one; [Reconciling.Run] runs it.
func NewReconciling[S any](o ReconcileOptions[S]) *Reconciling[S] {
	if o.Errors == nil {
		o.Errors = func(ReconcileError) {}
	}
	return &Reconciling[S]{o: o, announced: make(chan announcement[S], announceQueue), commands: make(chan func())}
}

// Announce has a source tracked. It does not block: what is too much is dropped, and announced again by the kernel.
func (r *Reconciling[S]) Announce(s Source[S], used uint64) {
	select {
	case r.announced <- announcement[S]{s, used}:
	default:
		r.mu.Lock()
		r.stats.Dropped++
		r.mu.Unlock()
	}
}

// Replace is [Reconciler.Replace], done between two rounds.
func (r *Reconciling[S]) Replace(ctx context.Context, f func(Source[S]) (Source[S], bool)) error {
	done := make(chan struct{})
	select {
	case r.commands <- func() { r.o.Core.Replace(f); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats says what was done.
func (r *Reconciling[S]) Stats() ReconcilingStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Run does rounds until ctx ends, and then a last one, so that the other nodes know what this one used. It begins after
// a part of the interval, lest nodes that are started together all ask at the same time.
func (r *Reconciling[S]) Run(ctx context.Context) error {
	first := time.NewTimer(rand.N(r.o.Core.Interval()))
	defer first.Stop()
	var ticks <-chan time.Time
	last := r.o.Clock()
	for {
		select {
		case <-ctx.Done():
			r.round(context.WithoutCancel(ctx), &last)
			return nil
		case a := <-r.announced:
			r.o.Core.Announce(r.o.Clock(), a.source, a.used)
		case do := <-r.commands:
			do()
		case <-first.C:
			ticker := time.NewTicker(r.o.Core.Interval())
			defer ticker.Stop()
			ticks = ticker.C
			r.round(ctx, &last)
		case <-ticks:
			r.round(ctx, &last)
		}
	}
}

// round is one, of several calls if there is much to tell. After the first that fails the others are not made.
func (r *Reconciling[S]) round(ctx context.Context, last *bucket.Ticks) {
	core, nodes := r.o.Core, max(1, r.o.Nodes())
	away, failed := !r.o.Gate.Ready(), false
	if away {
		core.Away(r.o.Clock(), nodes)
	} else {
		ops := core.Plan(r.o.Clock(), nodes)
		if cap(r.replies) < len(ops) {
			r.replies = make([]Reply, len(ops)+len(ops)/2)
		}
		replies := r.replies[:len(ops)]
		for i := 0; i < len(ops); i += reportsPerCall {
			end := min(i+reportsPerCall, len(ops))
			clear(replies[i:end])
			err := ErrUnasked
			if !failed {
				err = r.call(ctx, ops[i:end], replies[i:end])
			}
			failed = failed || err != nil
			for k := i; k < end && err != nil; k++ {
				replies[k] = Reply{Err: err}
			}
			for k := i; k < end && err == nil; k++ {
				if replies[k].Err != nil && replies[k].unanswered() == nil {
					r.o.Errors(ReconcileError{core.PolicyOf(k), replies[k].Err})
				}
			}
		}
		core.Apply(r.o.Clock(), replies)
	}
	r.count(core.Stats(), away, failed, last)
}

// ErrUnasked is the error of reports that were not made because a call before them failed.
var ErrUnasked = errors.New("not asked: a call before this one failed")

func (r *Reconciling[S]) call(ctx context.Context, ops []Op, replies []Reply) error {
	return r.o.Gate.Do(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
		defer cancel()
		return r.o.Executor.Do(ctx, r.o.Node, ops, replies)
	})
}

func (r *Reconciling[S]) count(s ReconcileStats, away, failed bool, last *bucket.Ticks) {
	now := r.o.Clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.ReconcileStats = s
	r.stats.Rounds++
	switch {
	case away:
		r.stats.Away++
	case failed:
		r.stats.Failed++
	default:
		*last = now
	}
	r.stats.Lag = bucket.Debt(now, *last).Duration()
}

package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// hotSource is where the kernel has a source's bucket.
type hotSource struct {
	policy *loader.LoadedPolicy
	key    loader.Key
}

// hotPolicy is a policy of consistency reconciled, as the kernel enforces it and as nodes share it.
type hotPolicy struct {
	loaded *loader.LoadedPolicy
	terms  *ratesync.ReconciledPolicy
}

// kernelTable is what a reconciler charges: the kernel's own memory.
type kernelTable struct{ buckets *loader.Buckets }

var _ ratesync.BucketTable[hotSource] = kernelTable{}

func (t kernelTable) Use(at hotSource) (used uint32, tat bucket.Ticks, found bool) {
	return t.buckets.Use(at.policy, at.key)
}

func (t kernelTable) Adjust(at hotSource, now bucket.Ticks, delta int64) (applied int64, found bool) {
	return t.buckets.Adjust(at.policy, at.key, now, delta)
}

// sharedKernel makes the kernels of all nodes hold busy sources to one limit: it hears from this one which sources are
// busy, tells Redis what they used, and charges them for what they used elsewhere.
type sharedKernel struct {
	dir      *loader.StateDir
	runDir   string
	interval time.Duration
	nodes    func() int
	options  ratesync.ReconcileOptions[hotSource] // without the core
	log      *slog.Logger

	policies atomic.Pointer[[]hotPolicy] // in force
	changed  chan struct{}               // they are others
	running  atomic.Pointer[ratesync.Reconciling[hotSource]]
}

func newSharedKernel(dir *loader.StateDir, runDir string, s *sharing) *sharedKernel {
	k := &sharedKernel{
		dir: dir, runDir: runDir, interval: s.config.Interval, nodes: s.members.Nodes, log: s.log, changed: make(chan struct{}, 1),
		options: ratesync.ReconcileOptions[hotSource]{
			Executor: s.redis, Gate: s, Node: s.name, Nodes: s.members.Nodes, Clock: loader.Now, Timeout: max(s.config.CommandTimeout, s.config.Interval/2),
		},
	}
	k.policies.Store(&[]hotPolicy{})
	return k
}

// update takes up what is attached now.
func (k *sharedKernel) update(all []loader.Attachment) {
	var policies []hotPolicy
	for _, a := range all {
		for i := range a.Policies {
			p := &a.Policies[i]
			if p.Consistency != policy.ConsistencyReconciled || p.Mode == policy.ModeOff {
				continue
			}
			terms, err := ratesync.NewReconciledPolicy(&p.Policy)
			if err != nil {
				// Validation has the same rules.
				k.log.Error("a policy is not shared; this is a defect of weir, please report it", "error", err)
				continue
			}
			policies = append(policies, hotPolicy{p, terms})
		}
	}
	k.policies.Store(&policies)
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// Run shares counts until ctx ends, from when there is something to share. That it fails is no reason for the daemon to
// end: each node then limits by itself.
func (k *sharedKernel) Run(ctx context.Context) error {
	for len(*k.policies.Load()) == 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-k.changed:
		}
	}
	if err := k.share(ctx); err != nil {
		k.log.Error("the kernel's counts are not shared: this node limits by itself (restart weir run)", "error", err)
	}
	return nil
}

// share opens the kernel's memory and announcements, and shares counts until ctx ends.
func (k *sharedKernel) share(ctx context.Context) (err error) {
	buckets, err := k.dir.OpenBuckets()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, buckets.Close()) }()
	hot, err := k.dir.OpenHot(k.runDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hot.Close()) }()
	o := k.options
	o.Core, err = ratesync.NewReconciler(ratesync.ReconcileConfig{Interval: k.interval, Seed: maphash.String(maphash.MakeSeed(), "")}, kernelTable{buckets})
	if err != nil {
		return fmt.Errorf("redis.interval: %w", err)
	}
	run := ratesync.NewReconciling(o)
	k.running.Store(run)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return run.Run(ctx) })
	g.Go(func() error { return hot.Run(ctx, func(h loader.Hot) { k.announce(run, h) }) })
	g.Go(func() error { return k.tend(ctx, run, hot) })
	return g.Wait()
}

// announce has a source tracked.
func (k *sharedKernel) announce(run *ratesync.Reconciling[hotSource], h loader.Hot) {
	for _, p := range *k.policies.Load() {
		if p.loaded.Announced(h) {
			key := p.loaded.Canonical(h.Key)
			run.Announce(ratesync.Source[hotSource]{
				Policy: p.terms, ID: sourceID(p.loaded.Name, key), At: hotSource{p.loaded, key},
			}, uint64(h.Used))
			return
		}
	}
}

// sourceID is what a bucket of a kernel policy is called on all nodes.
func sourceID(policy string, key loader.Key) ratesync.ID {
	var room [256]byte
	name := append(room[:0], "weir kernel 1\x00"...)
	name = append(append(name, policy...), 0)
	address := key.Source.As16() // of none: zeroes
	name = append(name, address[:]...)
	name = append(name, key.Protocol)
	name = binary.BigEndian.AppendUint16(name, key.Port)
	sum := sha256.Sum256(name)
	return ratesync.ID(sum[:16])
}

// tend follows the policies in force, and the number of nodes: what a node's part of a limit is depends on both.
func (k *sharedKernel) tend(ctx context.Context, run *ratesync.Reconciling[hotSource], hot *loader.HotSources) error {
	ticker := time.NewTicker(ratesync.BeatEvery)
	defer ticker.Stop()
	nodes := 0
	for {
		if now := k.nodes(); now != nodes {
			nodes = now
			k.setShifts(hot, nodes)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-k.changed:
			nodes = 0
			if err := run.Replace(ctx, k.successor()); err != nil {
				return nil // ctx has ended
			}
		}
	}
}

// setShifts tells the kernel how much use of a source is worth telling.
func (k *sharedKernel) setShifts(hot *loader.HotSources, nodes int) {
	var shift [loader.MaxPolicies]uint8
	for i := range shift {
		shift[i] = loader.HotNever
	}
	for _, p := range *k.policies.Load() {
		limit := p.loaded.BucketLimit()
		if slot := p.loaded.Slot; int(slot) < len(shift) {
			shift[slot] = min(shift[slot], limit.ShareShift(k.interval, nodes))
		}
	}
	for slot, s := range shift {
		hot.SetShift(uint8(slot), s)
	}
}

// successor gives tracked sources the policy that has the name of theirs now.
func (k *sharedKernel) successor() func(ratesync.Source[hotSource]) (ratesync.Source[hotSource], bool) {
	byName := map[string]hotPolicy{}
	for _, p := range *k.policies.Load() {
		byName[p.loaded.Name] = p
	}
	return func(s ratesync.Source[hotSource]) (ratesync.Source[hotSource], bool) {
		p, ok := byName[s.At.policy.Name]
		s.Policy, s.At.policy = p.terms, p.loaded
		return s, ok && sourceID(p.loaded.Name, p.loaded.Canonical(s.At.key)) == s.ID
	}
}

// stats are those of the reconciliation; nil: there is none.
func (k *sharedKernel) stats() *ratesync.ReconcilingStats {
	run := k.running.Load()
	if run == nil {
		return nil
	}
	s := run.Stats()
	return &s
}

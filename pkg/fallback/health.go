package fallback

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// While the store fails it is probed after firstPause, then ever later, up to lastPause; a fifth of a pause is left to
// chance, so that nodes that lost it together do not come back together.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 500 * time.Millisecond
	jitter     = 0.2
)

// pauses are the pauses between probes of a store that fails.
func pauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.RandomizationFactor = firstPause, 2, jitter
	b.MaxInterval = lastPause * 5 / 6 // with its jitter it is lastPause
	b.Reset()
	return b
}

// Start looks for the store for the first time, no longer than Options.Timeout, and tells whether it is there. If it is
// not, the guard is away, and nobody has to wait. Run does it if nobody did.
func (g *Guard) Start(ctx context.Context) bool {
	g.started.Do(func() {
		limit, cancel := context.WithTimeout(ctx, g.o.Timeout)
		defer cancel()
		g.probes.Add(1)
		err := g.answered(g.o.Probe(limit))
		if err == nil {
			err = g.o.Recover(limit)
		}
		if err == nil {
			g.found()
			return
		}
		g.failed(err)
		_, _ = g.breaker.Execute(func() (error, error) { return nil, errFailed })
	})
	return g.ready.Load()
}

// found makes the guard ready at the start, when nobody has missed the store: neither an alert nor a ramp.
func (g *Guard) found() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state, g.since = 0, time.Now()
	g.ready.Store(true)
}

// Run watches the store until ctx ends: it probes it, opens and closes the breaker, and tells people. It may run once at a
// time.
func (g *Guard) Run(ctx context.Context) error {
	if !g.running.CompareAndSwap(false, true) {
		return errors.New("the guard runs already (call Run once)")
	}
	defer g.running.Store(false)
	var telling sync.WaitGroup
	telling.Go(func() { g.announce(ctx) })
	defer telling.Wait()
	g.Start(ctx)
	for ctx.Err() == nil {
		if g.ready.Load() {
			g.watch(ctx)
		} else {
			g.regain(ctx)
		}
	}
	return nil
}

// watch probes the store while it is there: every Interval, and after failures, until it is well or away.
func (g *Guard) watch(ctx context.Context) {
	pause, next := pauses(), g.o.Interval
	for {
		suspected := wait(ctx, next, g.wake)
		if ctx.Err() != nil || !g.ready.Load() {
			return
		}
		if g.probeClosed(ctx) {
			pause.Reset()
			next = g.o.Interval
		} else {
			next = pause.NextBackOff()
		}
		if suspected {
			// Where some calls fail and others do not, they make no storm of probes.
			wait(ctx, firstPause, nil)
		}
	}
}

// probeClosed probes through the closed breaker. Only failures count: a probe that is answered does not make good for calls that
// are not.
func (g *Guard) probeClosed(ctx context.Context) bool {
	fine := false
	_, _ = g.breaker.Execute(func() (error, error) {
		err := g.probe(ctx)
		fine = err == nil
		if fine || ctx.Err() != nil {
			return nil, errNothing
		}
		return nil, errFailed
	})
	return fine
}

// regain probes a store that is away, until it is back.
func (g *Guard) regain(ctx context.Context) {
	pause := pauses()
	for !g.ready.Load() {
		wait(ctx, pause.NextBackOff(), nil)
		if ctx.Err() != nil {
			return
		}
		if g.probe(ctx) != nil {
			continue
		}
		g.mu.Lock()
		open := g.o.OpenFor - time.Since(g.since)
		g.mu.Unlock()
		if open >= 0 {
			wait(ctx, open+time.Millisecond, nil) // the breaker wants a moment after it
		}
		select {
		case <-g.wake: // what woke it has been looked at
		default:
		}
		g.tryOut(ctx)
	}
}

// tryOut does what the half-open breaker asks for: probes, then Recover. Any failure opens it again, and so does what kept
// it from being finished: the next attempt begins from the first probe.
func (g *Guard) tryOut(ctx context.Context) {
	fine := true
	for range g.o.HalfOpenRequests {
		fine = fine && g.through(func() error { return g.probe(ctx) })
	}
	if fine {
		g.through(func() error { return g.recover(ctx) })
	}
	if !g.ready.Load() {
		g.through(func() error { return errFailed })
	}
}

// through puts f through the breaker.
func (g *Guard) through(f func() error) bool {
	_, err := g.breaker.Execute(func() (error, error) {
		if f() != nil {
			return nil, errFailed
		}
		return nil, nil
	})
	return err == nil
}

// recover calls Recover once.
func (g *Guard) recover(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, g.o.RecoverTimeout)
	defer cancel()
	err := g.o.Recover(limit)
	if err == nil {
		g.settled.Store(true)
	} else if ctx.Err() == nil {
		g.failed(err)
	}
	return err
}

// probe probes once.
func (g *Guard) probe(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, g.o.Timeout)
	defer cancel()
	g.probes.Add(1)
	err := g.answered(g.o.Probe(limit))
	if err != nil && ctx.Err() == nil {
		g.failed(err)
	}
	return err
}

// answered drops the errors of probes that are answers of a store that is well: of one key that has something else.
func (g *Guard) answered(err error) error {
	if errors.Is(err, context.Canceled) || g.o.IsFailure(err) {
		return err
	}
	return nil
}

// wait waits for d, or until it is woken, of which it tells, or ctx ends.
func wait(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
		return true
	case <-ctx.Done():
	}
	return false
}

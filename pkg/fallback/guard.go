package fallback

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrAway says that the store is not asked at present.
var ErrAway = errors.New("the store is away")

// The verdicts on a call that the breaker is told in place of its error.
var (
	errFailed  = errors.New("failed")
	errNothing = errors.New("says nothing of the store")
)

// Guard stands before a store. Its methods may be called by many goroutines at once.
type Guard struct {
	o       Options
	breaker *gobreaker.CircuitBreaker[error]
	born    time.Time

	ready    atomic.Bool   // calls go to the store
	ramp     atomic.Int64  // when the ramp began, in ns since born; 0: there is none
	failures atomic.Uint64 // since the store was last well
	lately   atomic.Int64  // when the last failure ended that counts, in ns since born
	probes   atomic.Uint64
	class    atomic.Uint32 // Class of the last failure

	wake    chan struct{} // to the health loop: look now
	alerts  chan Alert    // to announce
	started sync.Once
	running atomic.Bool
	settled atomic.Bool // Recover succeeded since the breaker opened

	mu      sync.Mutex // of what follows; the breaker's own may be held
	state   gobreaker.State
	since   time.Time // of state
	away    time.Time // since when the store is away, if it is
	opened  uint64
	backs   uint64
	dropped uint64
}

// State says how the store is.
type State struct {
	// Breaker is "closed", "open" or "half-open"; "open" also before the start.
	Breaker string
	// Available tells whether calls go to the store.
	Available bool
	// ConsecutiveFailures counts failed calls and probes since a call last succeeded or the store was back.
	ConsecutiveFailures uint64
	// Since is when Breaker became what it is.
	Since time.Time
	// LastError is the class of the last failure; None if there never was one.
	LastError Class
	// Opened counts how often the store went away, Backs how often it came back, the start aside.
	Opened, Backs uint64
	// Probes counts the probes of the health loop.
	Probes uint64
	// AlertsDropped counts alerts that found too many others waiting.
	AlertsDropped uint64
}

// New makes a guard whose store is away until [Guard.Start] or [Guard.Run] finds it.
func New(o Options) (*Guard, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	g := &Guard{
		o: o, born: now, since: now, away: now, state: gobreaker.StateOpen,
		wake: make(chan struct{}, 1), alerts: make(chan Alert, alertQueue),
	}
	g.breaker = gobreaker.NewCircuitBreaker[error](gobreaker.Settings{
		// Recover is the last request of the half-open breaker, so that nothing but its success closes it.
		MaxRequests: o.HalfOpenRequests + 1,
		Timeout:     o.OpenFor,
		// Closed and not ready is how it is at the start only: a single failure is enough then.
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= o.Failures || !g.ready.Load() },
		IsSuccessful:  func(verdict error) bool { return verdict == nil },
		IsExcluded:    func(verdict error) bool { return verdict == errNothing },
		OnStateChange: func(_ string, _, to gobreaker.State) { g.changed(to) },
	})
	return g, nil
}

// Ready tells whether calls go to the store: one atomic load.
func (g *Guard) Ready() bool { return g.ready.Load() }

// Admits tells whether the key of a hash may go to the store: while the ramp lasts a share of all keys that grows with
// time, of which no key drops out again; else all. It knows nothing of [Guard.Ready]. The hash has to be a good one.
func (g *Guard) Admits(hash uint64) bool {
	began := g.ramp.Load()
	if began == 0 {
		return true
	}
	elapsed := int64(time.Since(g.born)) - began
	if elapsed >= int64(g.o.Ramp) {
		g.ramp.CompareAndSwap(began, 0)
		return true
	}
	// The multiplication takes the turn from other bits than those that place a bucket in a table.
	turn, _ := bits.Mul64(hash*0x9e3779b97f4a7c15, uint64(g.o.Ramp))
	return elapsed > 0 && turn < uint64(elapsed)
}

// Do calls f if the store is there, else it returns [ErrAway] at once. The store's own timeout belongs into f: what ended
// because ctx did is held against nobody, as callers would decide by their deadlines whether there is a store. Of calls
// that fail at the same time one counts: ten connections that time out in one moment are one reason to doubt the store, or
// this node's own breath.
func (g *Guard) Do(ctx context.Context, f func(context.Context) error) error {
	if !g.ready.Load() {
		return ErrAway
	}
	err, verdict := g.breaker.Execute(func() (error, error) {
		// The breaker may have opened, and its pause be over, since ready was looked at.
		if !g.ready.Load() {
			return ErrAway, errNothing
		}
		began := int64(time.Since(g.born))
		err := f(ctx)
		return err, g.judge(ctx, err, began)
	})
	if errors.Is(verdict, gobreaker.ErrOpenState) || errors.Is(verdict, gobreaker.ErrTooManyRequests) {
		return ErrAway
	}
	return err
}

// judge says what a call's error tells of the store.
func (g *Guard) judge(ctx context.Context, err error, began int64) error {
	switch {
	case !g.o.IsFailure(err):
		if errors.Is(err, context.Canceled) {
			return errNothing
		}
		if g.failures.Load() != 0 && g.ready.Load() {
			g.failures.Store(0)
		}
		return nil
	case ctx.Err() != nil:
		g.look() // a store that hangs would go unnoticed by impatient callers alone
		return errNothing
	}
	g.look()
	if last := g.lately.Load(); began < last || !g.lately.CompareAndSwap(last, max(last, int64(time.Since(g.born)))) {
		return errNothing // it was under way when another one failed
	}
	g.failed(err)
	return errFailed
}

// failed counts a failure.
func (g *Guard) failed(err error) {
	g.failures.Add(1)
	g.class.Store(uint32(ClassOf(err)))
}

// Suspect has the store probed now: somebody who asks it by another way, as heartbeats are, got no answer. A node that
// decides nothing would else hear of it at the next probe only.
func (g *Guard) Suspect() { g.look() }

// look wakes the health loop.
func (g *Guard) look() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// changed takes up a new state of the breaker, which holds its lock: it may not be called from here, nor anything that waits.
func (g *Guard) changed(to gobreaker.State) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.opened == 0 && !g.ready.Load() // away from the start
	g.state, g.since = to, now
	switch to {
	case gobreaker.StateOpen:
		g.settled.Store(false)
		if g.ready.Swap(false) || first {
			g.opened++
			g.away = now
			g.tell(Alert{Event: StoreAway, Since: now})
			g.look()
		}
	case gobreaker.StateClosed:
		if !g.settled.Load() {
			g.state = gobreaker.StateHalfOpen // tryOut opens it again
			return
		}
		g.backs++
		g.tell(Alert{Event: StoreBack, Since: g.away, Duration: Duration(now.Sub(g.away))})
		g.failures.Store(0)
		if g.o.Ramp > 0 {
			g.ramp.Store(max(1, int64(now.Sub(g.born))))
		}
		g.ready.Store(true)
	}
}

// State says how the store is.
func (g *Guard) State() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return State{
		Breaker: g.state.String(), Available: g.ready.Load(), ConsecutiveFailures: g.failures.Load(), Since: g.since,
		LastError: Class(g.class.Load()), Opened: g.opened, Backs: g.backs, Probes: g.probes.Load(), AlertsDropped: g.dropped,
	}
}

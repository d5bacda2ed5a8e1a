package fallback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options are what a [Guard] needs. What is zero gets the value that its comment names.
type Options struct {
	// Probe asks the store something that succeeds only if calls would: a write, as a replica answers a PING too. It has to
	// return when ctx ends. Required.
	Probe func(ctx context.Context) error
	// Recover is called before calls go to the store, at the start and whenever it is back: it tells the store what this
	// node owes. An error keeps the store away. It has to return when ctx ends. nil: nothing has to be done.
	Recover func(ctx context.Context) error
	// IsFailure tells which errors of calls and probes say that the store can't be used: nil: [IsFailure].
	IsFailure func(err error) bool

	Failures         uint32        // in a row that open the breaker: 5
	OpenFor          time.Duration // how long it stays open at least: 1s
	HalfOpenRequests uint32        // probes in a row that must succeed before Recover: 3
	Interval         time.Duration // between probes while it is closed: 30s
	// Timeout is that of a probe, and of all that the start waits for: 250ms. Probes need more patience than calls: one that
	// is late while the breaker is half-open costs OpenFor once more.
	Timeout        time.Duration
	RecoverTimeout time.Duration // of Recover: 1s
	// Ramp is how long it takes until all keys go to the store again: see [Guard.Admits]; 0: all do at once.
	Ramp time.Duration

	// Instance names this node in alerts.
	Instance string
	// Log gets one line whenever the store goes away or is back; nil: [slog.Default].
	Log *slog.Logger
	// Alert is told the same after the log, in order, one at a time; it must not block. nil: nobody is.
	Alert func(Alert)
}

// most bounds the counts of Options.
const most = 1000

// withDefaults completes o, or says what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	if o.Probe == nil {
		return o, errors.New("a guard needs a probe (set Options.Probe)")
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		unset time.Duration
	}{
		{"OpenFor", &o.OpenFor, time.Second}, {"Interval", &o.Interval, 30 * time.Second},
		{"Timeout", &o.Timeout, 250 * time.Millisecond}, {"RecoverTimeout", &o.RecoverTimeout, time.Second}, {"Ramp", &o.Ramp, 0},
	} {
		if *d.value < 0 {
			return o, fmt.Errorf("%s is %v (it is 0 or more)", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.unset
		}
	}
	for _, n := range []struct {
		name  string
		value *uint32
		unset uint32
	}{{"Failures", &o.Failures, 5}, {"HalfOpenRequests", &o.HalfOpenRequests, 3}} {
		if *n.value > most {
			return o, fmt.Errorf("%s is %d (it is at most %d)", n.name, *n.value, most)
		}
		if *n.value == 0 {
			*n.value = n.unset
		}
	}
	if o.Recover == nil {
		o.Recover = func(context.Context) error { return nil }
	}
	if o.IsFailure == nil {
		o.IsFailure = IsFailure
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o, nil
}

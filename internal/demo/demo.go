package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// The bounds of [Options.Duration].
const (
	// MinDuration is the shortest in which the rate shows beside the burst.
	MinDuration = 3 * time.Second
	MaxDuration = 5 * time.Minute
)

// ErrStopped says that the context ended the demo before its end, and that nothing of it is left.
var ErrStopped = errors.New("the demo was stopped before its end; everything that it had built is removed")

// Options says how long to demonstrate, and where to pin. All fields are required.
type Options struct {
	// Duration is how long the hosts send with weir attached: MinDuration to MaxDuration.
	Duration time.Duration
	// Before is how long they send without weir, for comparison.
	Before time.Duration
	// PinDir is a directory of a bpf file system, in which the demo makes a state directory of its own.
	PinDir string
}

// Validate reports why the demo cannot run so.
func (o Options) Validate() error {
	if o.Duration < MinDuration || o.Duration > MaxDuration {
		return fmt.Errorf("duration %v: want %v to %v", o.Duration, MinDuration, MaxDuration)
	}
	if o.Before <= 0 {
		return fmt.Errorf("duration without weir %v: want a positive one", o.Before)
	}
	return nil
}

// attempts is how often the part with weir is played at most. It is played again only when packets got lost outside
// weir, or nobody could send for a while, as on a machine that stood still: then nothing was shown, neither for weir nor
// against it.
const attempts = 3

// PerClient is the policy that holds each source to its limit, and those that were never seen to theirs together. Its burst
// is a second's, so that a flooder that this machine kept from sending for a moment gets what it missed.
func PerClient() policy.Policy {
	return policy.Policy{
		Name: "per-client", Scope: policy.ScopePerIP, Limit: 1000, Window: time.Second, Priority: 1,
		NewSources: &policy.NewSources{Limit: 1000, Window: time.Second},
	}.WithDefaults()
}

// PerNetwork is the policy that holds all sources of a network together.
func PerNetwork() policy.Policy {
	return policy.Policy{
		Name: "per-network", Scope: policy.ScopePerIP, Limit: 3000, Window: time.Second,
		IPv4Prefix: 24, IPv6Prefix: 48,
	}.WithDefaults()
}

// Policies are what the demo enforces, in the order of evaluation: whoever is a stranger to the first is none to the second.
func Policies() []policy.Policy {
	return policy.KernelPolicies([]policy.Policy{PerClient(), PerNetwork()})
}

// Progress is how far the demo is.
type Progress struct {
	Attached bool          // weir is on the gateway's interface
	Attempt  int           // with weir, from 1: see [Result]
	Of       time.Duration // how long this part takes
	Done     bool          // this part is over, and Now is what the [Result] will have
	Now      Measurement
}

// Run builds the lab, lets its hosts send without weir and then with it, judges, and removes everything, also when ctx ends
// it: then the error is [ErrStopped]. It calls observe about four times a second, never twice at once.
//
// An error means that the demo could not be carried out. That it was, and did not prove what it set out to, is a [Result].
func Run(ctx context.Context, o Options, observe func(Progress)) (_ *Result, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s, err := newStage(ctx, o)
	defer func() {
		left := s.close()
		switch {
		case left != nil:
			err = errors.Join(err, left)
		case err != nil && ctx.Err() != nil:
			err = ErrStopped
		}
	}()
	if err != nil {
		return nil, err
	}
	before, err := s.perform(ctx, o.Before, observe)
	if err != nil {
		return nil, err
	}
	for {
		r, err := s.prove(ctx, o, observe)
		if err != nil {
			return nil, err
		}
		r.Before = before
		if !r.disturbed || r.Attempts == attempts {
			return r, nil
		}
	}
}

// prove plays the part with weir, from an empty table, and judges it.
func (s *stage) prove(ctx context.Context, o Options, observe func(Progress)) (*Result, error) {
	if err := s.attach(o.Duration); err != nil {
		return nil, err
	}
	with, err := s.perform(ctx, o.Duration, observe)
	if err != nil {
		return nil, err
	}
	kernel, err := s.kernel()
	if err != nil {
		return nil, err
	}
	r := judge(o.Duration, with, kernel)
	r.Attempts = s.attempt
	return r, nil
}

// perform is one part of the demo, with its progress.
func (s *stage) perform(ctx context.Context, d time.Duration, observe func(Progress)) (Measurement, error) {
	report := func(m Measurement, done bool) {
		observe(Progress{Attached: s.attached, Attempt: s.attempt, Of: d, Done: done, Now: s.assess(m)})
	}
	m, err := s.play(ctx, d, func(m Measurement) { report(m, false) })
	if err != nil {
		return m, err
	}
	report(m, true)
	return s.assess(m), nil
}

// assess adds the verdicts, which nobody deserves as long as there is no weir.
func (s *stage) assess(m Measurement) Measurement {
	if s.attached {
		for i := range m.Clients {
			m.Clients[i].OK, m.Clients[i].Verdict = verdict(m.Clients[i])
		}
	}
	return m
}

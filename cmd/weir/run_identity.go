package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/identity"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/middleware"
)

func limiterOptions(c *config.Config) limiter.Options { return limiter.Options{} }

func dialectOf(c *config.Config) (middleware.Dialect, error) { return middleware.XRateLimit, nil }

func identityOptions(c *config.Config, v *identity.Verifier) identity.Options {
	o := identity.DefaultOptions()
	o.TrustedProxies, o.JWT = c.Server.TrustedProxies, v
	return o
}

// verifier is the verifier of tokens that a configuration asks for.
type verifier struct {
	*identity.Verifier
}

// next is the verifier for another configuration: the same, with the keys that it has, if nothing about it
// changed.
func (v verifier) next(c *config.Config, log *slog.Logger) (verifier, error) { return verifier{}, nil }

// tokenKeys keeps the keys of the verifier in force up to date.
type tokenKeys struct{ inForce chan *identity.Verifier }

func newTokenKeys() tokenKeys { return tokenKeys{make(chan *identity.Verifier, 1)} }

// use puts another verifier in the place of the one before; nil: there is none. Only one goroutine may call it.
func (k tokenKeys) use(v *identity.Verifier) {
	select {
	case <-k.inForce: // nobody has taken it over yet
	default:
	}
	k.inForce <- v
}

// Run runs the verifier in force, until another takes its place or ctx ends. It returns nil.
func (k tokenKeys) Run(ctx context.Context) error {
	var running *identity.Verifier
	for {
		of, stop := context.WithCancel(ctx)
		var group sync.WaitGroup
		if running != nil {
			v := running
			group.Go(func() { _ = v.Run(of) }) // which returns nil
		}
		next := k.next(ctx, running)
		stop()
		group.Wait()
		if ctx.Err() != nil {
			return nil
		}
		running = next
	}
}

// next waits for another verifier than the one that runs, or for the end of ctx.
func (k tokenKeys) next(ctx context.Context, running *identity.Verifier) *identity.Verifier {
	for {
		select {
		case <-ctx.Done():
			return nil
		case v := <-k.inForce:
			if v != running {
				return v
			}
		}
	}
}

package ratesync

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// silence is how long a subscription may say nothing before it is asked whether it is there.
	silence = 5 * time.Second
	// Between attempts to subscribe: polls go on meanwhile.
	firstSubscribe = 100 * time.Millisecond
	lastSubscribe  = 5 * time.Second
)

// listen gives a hint whenever the store tells of a set, or may have told of one and nobody heard it.
func (f *PolicyFollower) listen(ctx context.Context, hints chan<- struct{}) {
	wait, silent := firstSubscribe, false
	for ctx.Err() == nil {
		heard, err := f.subscription(ctx, hints)
		f.count(func(st *PolicyStatus) { st.Subscribed = false })
		if ctx.Err() != nil {
			return
		}
		if heard {
			wait, silent = firstSubscribe, false
		}
		if !silent {
			f.o.Log.Warn("changes of the cluster's policies are not announced; they are polled for", "every", f.o.Every, "error", storeFault("subscribe", err))
			silent = true
		}
		pause(ctx, jitter(wait))
		wait = min(2*wait, lastSubscribe)
	}
}

// subscription listens on one connection until that fails, and tells whether it ever worked.
func (f *PolicyFollower) subscription(ctx context.Context, hints chan<- struct{}) (heard bool, err error) {
	sub := f.o.Store.o.Client.Subscribe(ctx, f.o.Store.channel)
	// go-redis waits for messages whatever becomes of ctx.
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer func() {
		if stop() {
			_ = sub.Close() // of a connection that is given up
		}
	}()
	asked := false
	for {
		message, err := sub.ReceiveTimeout(ctx, silence)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && !asked && ctx.Err() == nil {
			asked = true
			if err := sub.Ping(ctx); err != nil {
				return heard, err
			}
			continue
		}
		if err != nil {
			return heard, err
		}
		asked = false
		switch message.(type) {
		case *redis.Subscription:
			heard = true
			f.count(func(st *PolicyStatus) { st.Subscribed = true })
		case *redis.Message:
		default: // a pong
			continue
		}
		select {
		case hints <- struct{}{}:
		default: // one is waiting, and covers this one too
		}
	}
}

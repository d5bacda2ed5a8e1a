package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// resubscribeAfter is how long a link watch waits before it asks the kernel again.
const resubscribeAfter = time.Second

// linkChange is what the kernel says of an interface: that it is there, perhaps changed, or gone.
type linkChange struct {
	name  string
	index int
	gone  bool
}

// linkWatch tells what becomes of the interfaces of this network namespace.
type linkWatch struct {
	// subscribe is netlink.LinkSubscribeWithOptions, or a test's.
	subscribe func(chan<- netlink.LinkUpdate, <-chan struct{}, netlink.LinkSubscribeOptions) error
	// changes gets every change.
	changes chan<- linkChange
	// gaps gets a word after a time in which changes may have been missed: at the start, and whenever
	// the kernel had more to say than the socket could hold.
	gaps chan<- struct{}
	log  *slog.Logger
}

// Run watches until ctx ends. A watch that breaks is begun anew.
func (w *linkWatch) Run(ctx context.Context) error {
	for {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.log.Warn("the watch for interfaces broke; it is begun anew", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(resubscribeAfter):
		}
	}
}

// watch passes changes on until the subscription breaks or ctx ends.
func (w *linkWatch) watch(ctx context.Context) error {
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	var broken error // the last thing that went wrong; not to be read before updates is closed
	err := w.subscribe(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) { broken = err },
	})
	if err != nil {
		close(done)
		return err
	}
	defer func() {
		close(done)
		// The subscription's goroutine may be about to send.
		for range updates {
		}
	}()
	select {
	case <-ctx.Done():
		return nil
	case w.gaps <- struct{}{}:
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return broken
			}
			if err := w.pass(ctx, u); err != nil {
				return nil
			}
		}
	}
}

func (w *linkWatch) pass(ctx context.Context, u netlink.LinkUpdate) error {
	// A bridge says of an interface that leaves it that it is gone: from the bridge.
	if u.IfInfomsg.Family != unix.AF_UNSPEC {
		return nil
	}
	a := u.Link.Attrs()
	c := linkChange{name: a.Name, index: a.Index, gone: u.Header.Type == unix.RTM_DELLINK}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case w.changes <- c:
		return nil
	}
}

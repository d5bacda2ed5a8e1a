package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
)

// fakeLinks is what netlink would say, one subscription after another.
type fakeLinks struct {
	updates []netlink.LinkUpdate
	err     error // that ends the subscription; nil: it goes on until done
}

func (f fakeLinks) subscribe(ch chan<- netlink.LinkUpdate, done <-chan struct{}, o netlink.LinkSubscribeOptions) error {
	go func() {
		defer close(ch)
		for _, u := range f.updates {
			ch <- u // as netlink does it: nobody is asked whether it is still wanted
		}
		if f.err != nil {
			o.ErrorCallback(f.err)
			return
		}
		<-done
	}()
	return nil
}

func linkUpdate(kind uint16, family uint8, name string, index int) netlink.LinkUpdate {
	u := netlink.LinkUpdate{Link: &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index}}}
	u.Header.Type = kind
	u.IfInfomsg.Family = family
	return u
}

func startLinkWatch(t *testing.T, f fakeLinks) (changes chan linkChange, gaps chan struct{}, stop func() error) {
	t.Helper()
	testutil.NoLeaks(t)
	changes, gaps = make(chan linkChange), make(chan struct{})
	w := &linkWatch{subscribe: f.subscribe, changes: changes, gaps: gaps, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return changes, gaps, func() error { cancel(); return <-done }
}

func TestLinkWatch(t *testing.T) {
	changes, gaps, stop := startLinkWatch(t, fakeLinks{updates: []netlink.LinkUpdate{
		linkUpdate(unix.RTM_NEWLINK, unix.AF_UNSPEC, "eth0", 5),
		linkUpdate(unix.RTM_DELLINK, unix.AF_BRIDGE, "eth0", 5), // left a bridge
		linkUpdate(unix.RTM_DELLINK, unix.AF_UNSPEC, "eth0", 5),
		linkUpdate(unix.RTM_NEWLINK, unix.AF_UNSPEC, "unread", 6),
	}})
	<-gaps
	for _, want := range []linkChange{{name: "eth0", index: 5}, {name: "eth0", index: 5, gone: true}} {
		if got := <-changes; got != want {
			t.Errorf("change %+v, want %+v", got, want)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("run: %v, want nil", err)
	}
}

// A watch that breaks has missed what happened since: whoever listens hears of the gap.
func TestLinkWatchBeginsAnew(t *testing.T) {
	_, gaps, stop := startLinkWatch(t, fakeLinks{err: unix.ENOBUFS})
	<-gaps
	<-gaps
	if err := stop(); err != nil {
		t.Errorf("run: %v, want nil", err)
	}
}

func TestLinkWatchCannotSubscribe(t *testing.T) {
	testutil.NoLeaks(t)
	refused := errors.New("refused")
	w := &linkWatch{
		subscribe: func(chan<- netlink.LinkUpdate, <-chan struct{}, netlink.LinkSubscribeOptions) error { return refused },
		log:       slog.New(slog.DiscardHandler),
	}
	if err := w.watch(t.Context()); !errors.Is(err, refused) {
		t.Errorf("watch: %v, want %v", err, refused)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/server"
)

// daemon is what "weir run" runs. The goroutine of Run owns the reconciler, the configuration and all
// that changes the state directory; the others ask it by do.
type daemon struct {
	file       string
	watched    bool // reload when the file changes
	dir        *loader.StateDir
	log        *slog.Logger
	config     *config.Config // in force
	content    contentHash    // of the file, as it was tried last
	origin     server.Config
	reconciler *reconciler
	listener   net.Listener // nil: server.http is empty
	socket     net.Listener
	metrics    http.Handler
	events     *loader.Events // nil: somebody else listens, or there are none
	top        *top.Top       // of the events

	hangups <-chan os.Signal
	changes chan linkChange
	gaps    chan struct{}
	looks   chan struct{} // the file may have changed
	calls   chan func()
	stopped chan struct{} // closed when Run ends

	shown   atomic.Pointer[shown]
	token   atomic.Pointer[server.Token]
	reloads reloadCount
}

// shown is what readyz tells.
type shown struct {
	missing []server.Missing
	config  server.Config
}

var _ server.Readiness = (*daemon)(nil)

// errStopping is what whoever asks too late gets.
var errStopping = errors.New("weir run is ending")

// Run keeps the kernel like the file until ctx ends. It always returns nil: what fails is logged,
// shown by readyz, and tried again.
func (d *daemon) Run(ctx context.Context) error {
	defer close(d.stopped)
	ticker := time.NewTicker(resyncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case call := <-d.calls:
			call()
		case <-d.hangups:
			d.reload()
		case <-d.looks:
			d.look()
		case c := <-d.changes:
			if d.reconciler.LinkChanged(c) {
				d.update()
			}
		case <-d.gaps:
			d.resync()
		case <-ticker.C:
			d.resync()
			d.sweepBans()
		}
		d.publish()
	}
}

// do runs f on the goroutine that owns the daemon's state, and waits for it. Once f has begun it is
// waited for to its end, whatever becomes of ctx: half a change is none.
func (d *daemon) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	call := func() {
		defer close(done)
		f()
		d.publish() // before the answer: who asked may look next
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.stopped:
		return errStopping
	case d.calls <- call:
	}
	<-done
	return nil
}

func (d *daemon) resync() {
	if err := d.reconciler.Observe(); err != nil {
		d.log.Error("can't read what is attached", "error", err)
	}
	d.update()
}

// update leaves the errors to the reconciler, which logged each with its interface.
func (d *daemon) update() { _ = d.reconciler.Update(time.Now()) }

// sweepBans makes room, and lets the kernel stop looking for bans once there are none.
func (d *daemon) sweepBans() {
	if _, err := d.dir.SweepBans(); err != nil && !errors.Is(err, loader.ErrNothingAttached) {
		d.log.Error("can't sweep the bans that are over", "error", err)
	}
}

// plan says what a configuration asks of the kernel.
func (d *daemon) plan(c *config.Config) (desired, error) {
	want := desired{interfaces: c.Interfaces, document: c.Document(), entries: int(c.Table.Entries)}
	if len(want.kernelPolicies()) == 0 {
		d.log.Warn("there is no policy for the kernel: every packet passes that is not denied", "config", d.file)
	}
	if len(want.interfaces) > 0 {
		d.warnUnmet(want)
		return want, nil
	}
	attached, err := d.reconciler.Attached()
	if err != nil {
		return desired{}, err
	}
	if len(attached) == 0 {
		return desired{}, fmt.Errorf("no interfaces: in %s, and none is attached to (add, for example: interfaces: [{name: eth0}])", d.file)
	}
	want.interfaces = attached
	d.warnUnmet(want)
	return want, nil
}

// warnUnmet logs which policies of a configuration have no effect.
func (d *daemon) warnUnmet(want desired) {
	for _, u := range unmet(want.document.Policies, listedPlaces(want.interfaces)) {
		d.log.Warn("a policy meets no packet", "policy", u.Policy, "why", u.Why)
	}
}

// publish shows to readyz what Run knows.
func (d *daemon) publish() {
	d.shown.Store(&shown{missing: d.reconciler.Missing(), config: d.origin})
}

// Missing lists the interfaces of the file that are not enforced as it says.
func (d *daemon) Missing() []server.Missing { return d.shown.Load().missing }

// Config tells whether the file as it is now is in force.
func (d *daemon) Config() server.Config { return d.shown.Load().config }

// address is where the daemon listens; empty if it does not.
func (d *daemon) address() string {
	if d.listener == nil {
		return ""
	}
	return d.listener.Addr().String()
}

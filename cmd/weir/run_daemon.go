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

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

// daemon is what "weir run" runs. The goroutine of Run owns the reconciler and all that changes the
// state directory; the others ask it.
type daemon struct {
	file       string
	dir        *loader.StateDir
	log        *slog.Logger
	config     *config.Config // in force
	reconciler *reconciler
	listener   net.Listener // nil: server.http is empty
	metrics    http.Handler

	hangups <-chan os.Signal
	changes chan linkChange
	gaps    chan struct{}
	asked   chan chan<- reading
	stopped chan struct{} // closed when Run ends
	missing atomic.Pointer[[]server.Missing]
}

// reading is the answer to somebody who asked for the attachments.
type reading struct {
	attachments []loader.Attachment
	err         error
}

var _ server.Readiness = (*daemon)(nil)

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
		case reply := <-d.asked:
			all, err := d.reconciler.own()
			reply <- reading{all, err}
		case <-d.hangups:
			d.reload()
		case c := <-d.changes:
			if d.reconciler.LinkChanged(c) {
				d.update()
			}
		case <-d.gaps:
			d.resync()
		case <-ticker.C:
			d.resync()
		}
		d.publish()
	}
}

func (d *daemon) resync() {
	if err := d.reconciler.Observe(); err != nil {
		d.log.Error("can't read what is attached", "error", err)
	}
	d.update()
}

// update leaves the errors to the reconciler, which logged each with its interface.
func (d *daemon) update() { _ = d.reconciler.Update(time.Now()) }

// reload makes the kernel like the file as it is now. A file that can't be enforced changes nothing.
func (d *daemon) reload() {
	next, want, err := d.read()
	if err != nil {
		for _, err := range faults(err) {
			d.log.Error("the file is not reloaded; what was in force still is", "error", err)
		}
		return
	}
	if next.Server.HTTP != d.config.Server.HTTP {
		d.log.Warn("server.http has changed, which needs a restart of weir run",
			"listening", d.config.Server.HTTP, "file", next.Server.HTTP)
		next.Server.HTTP = d.config.Server.HTTP
	}
	d.config = next
	d.reconciler.Want(want)
	updateErr, pruneErr := d.reconciler.Update(time.Now()), d.reconciler.Prune()
	if pruneErr != nil {
		d.log.Error("can't detach what the file does not list any more", "error", pruneErr)
	}
	log := d.log.With("config", d.file, "interfaces", len(want.interfaces), "policies", len(want.policies))
	if updateErr != nil || pruneErr != nil {
		log.Error("reloaded in part: the kernel refused some of it, see above")
		return
	}
	log.Info("reloaded")
}

// faults takes apart the errors of a file, so that each gets a line of the log.
func faults(err error) []error {
	if all, ok := errors.AsType[config.Errors](err); ok {
		return all.Unwrap()
	}
	return []error{err}
}

func (d *daemon) read() (*config.Config, desired, error) {
	next, err := config.Load(d.file)
	if err != nil {
		return nil, desired{}, err
	}
	want, err := d.plan(next)
	if err != nil {
		return nil, desired{}, err
	}
	if next.Table.Entries != d.config.Table.Entries {
		return nil, desired{}, fmt.Errorf("%s: table.entries has changed from %d to %d, and a table can't change its size (stop weir run, run: weir detach --all, start it again; buckets start full then)",
			d.file, d.config.Table.Entries, next.Table.Entries)
	}
	return next, want, nil
}

// plan says what a configuration asks of the kernel.
func (d *daemon) plan(c *config.Config) (desired, error) {
	want := desired{
		interfaces: c.Interfaces,
		policies:   policy.KernelPolicies(c.Policies),
		entries:    int(c.Table.Entries),
	}
	if len(want.policies) == 0 {
		d.log.Warn("the file has no policy for the kernel: every packet passes", "config", d.file)
	}
	if len(want.interfaces) > 0 {
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
	return want, nil
}

// publish shows Missing what the reconciler knows.
func (d *daemon) publish() {
	missing := d.reconciler.Missing()
	d.missing.Store(&missing)
}

// Missing lists the interfaces of the file that are not enforced as it says.
func (d *daemon) Missing() []server.Missing { return *d.missing.Load() }

// address is where the daemon listens; empty if it does not.
func (d *daemon) address() string {
	if d.listener == nil {
		return ""
	}
	return d.listener.Addr().String()
}

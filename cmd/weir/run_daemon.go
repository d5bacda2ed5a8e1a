package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/server"
)

// daemon is what "weir run" runs. The goroutine of Run owns the configuration, both parts and all that
// changes the state directory; the others ask it by do.
type daemon struct {
	file     string
	stateDir string
	watched  bool // reload when the file changes
	log      *slog.Logger
	config   *config.Config // in force
	content  contentHash    // of the file and of server.rls_config, as they were tried last
	origin   server.Config
	packets  *packets // nil: the file asked nothing of the kernel when the daemon started
	requests *requests
	sharing  *sharing         // with other nodes; nil: the file has no redis
	cluster  *clusterPolicies // nil: the file has no redis
	open     listeners
	metrics  http.Handler

	hangups <-chan os.Signal
	looks   chan struct{} // the file may have changed
	calls   chan func()
	stopped chan struct{} // closed when Run ends

	further atomic.Pointer[[]string] // of server.rls_config, as the file was tried last
	moved   chan struct{}            // tells it that there are others
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

// Run keeps the kernel and layer 7 like the file until ctx ends. It always returns nil: what fails is
// logged, shown by readyz, and tried again.
func (d *daemon) Run(ctx context.Context) error {
	defer close(d.stopped)
	ticker := time.NewTicker(resyncEvery)
	defer ticker.Stop()
	var changes chan linkChange // of a daemon without the kernel nobody sends
	var gaps chan struct{}
	if d.packets != nil {
		changes, gaps = d.packets.changes, d.packets.gaps
	}
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
		case c := <-changes:
			if d.packets.reconciler.LinkChanged(c) {
				d.packets.update()
			}
		case <-gaps:
			d.packets.resync()
		case <-ticker.C:
			if d.packets != nil {
				d.packets.tend()
			}
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

// publish shows to readyz what Run knows.
func (d *daemon) publish() {
	now := &shown{config: d.origin}
	now.config.RequestsOnly = d.packets == nil
	if d.packets != nil {
		now.missing = d.packets.missing()
		d.shareAttached()
	}
	d.shown.Store(now)
}

// shareAttached has the counts shared of what is attached now.
func (d *daemon) shareAttached() {
	if d.sharing == nil || !d.packets.changed {
		return
	}
	all, err := d.packets.reconciler.own()
	if err != nil {
		d.log.Error("can't read what is attached; its counts are shared as before", "error", err)
		return
	}
	d.packets.changed = false
	d.sharing.kernel.update(all)
}

// Missing lists the interfaces of the file that are not enforced as it says.
func (d *daemon) Missing() []server.Missing { return d.shown.Load().missing }

// Config tells whether the file as it is now is in force, and works.
func (d *daemon) Config() server.Config {
	c := d.shown.Load().config
	if warning := d.requests.inForce.Load().verifier.warning(); warning != "" {
		c.Warnings = []string{warning}
	}
	c.ClusterVersion = d.cluster.version()
	c.Warnings = append(c.Warnings, d.cluster.warnings()...)
	return c
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/privilege"
	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

// packets is the part of the daemon that has the kernel judge packets: the state directory, and all that
// is done with it. A daemon whose file asks nothing of the kernel has none.
type packets struct {
	file       string
	log        *slog.Logger
	dir        *loader.StateDir
	reconciler *reconciler
	events     *loader.Events // nil: somebody else listens, or there are none
	top        *top.Top       // of the events

	changed bool // what is attached, since somebody asked
	changes chan linkChange
	gaps    chan struct{}
}

// kernelNeed says what of a configuration only the kernel can do; empty if layer 7 can do all of it. Lists
// hold at layer 7 too, so that they alone ask for the kernel only if there is no policy beside them.
func kernelNeed(c *config.Config) string {
	kernel := policy.KernelPolicies(c.Policies)
	switch {
	case len(c.Interfaces) > 0:
		return "it lists interfaces"
	case len(kernel) > 0:
		return fmt.Sprintf("policy %s is of layer kernel", kernel[0].Name)
	case len(c.Allow)+len(c.Deny) > 0 && len(policy.L7Policies(c.Policies)) == 0:
		return "it has lists, and no policy of layer l7"
	}
	return ""
}

// openPackets takes the state directory, and changes nothing yet.
func openPackets(stateDir, file string, log *slog.Logger) (*packets, error) {
	if err := privilege.Check(); err != nil {
		return nil, err
	}
	// No wait: the lock is held by a daemon, most likely, and that won't give it up.
	dir, err := loader.Lock(stateDir, 0)
	if err != nil {
		return nil, err
	}
	namespace, err := netNamespace()
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &packets{
		file: file, log: log, dir: dir, changes: make(chan linkChange), gaps: make(chan struct{}),
		reconciler: &reconciler{kernel: stateKernel{dir}, namespace: namespace, exists: interfaceExists, log: log},
	}, nil
}

// netNamespace is the inode of the network namespace that the daemon works in.
func netNamespace() (uint64, error) {
	const path = "/proc/thread-self/ns/net"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("find out the network namespace: %w (is /proc mounted?)", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	return st.Ino, nil
}

// change makes the kernel like a configuration, on all interfaces or on none.
func (p *packets) change(c *config.Config) error {
	want, err := p.plan(c)
	if err != nil {
		return err
	}
	p.changed = true
	return p.reconciler.Change(want, time.Now())
}

// plan says what a configuration asks of the kernel.
func (p *packets) plan(c *config.Config) (desired, error) {
	want := desired{interfaces: c.Interfaces, document: c.Document(), entries: int(c.Table.Entries)}
	if len(want.kernelPolicies()) == 0 {
		p.log.Warn("there is no policy for the kernel: every packet passes that is not denied", "config", p.file)
	}
	if len(want.interfaces) > 0 {
		p.warnUnmet(want)
		return want, nil
	}
	attached, err := p.reconciler.Attached()
	if err != nil {
		return desired{}, err
	}
	if need := kernelNeed(c); len(attached) == 0 && need != "" {
		return desired{}, fmt.Errorf("no interfaces: in %s, and none is attached to, but %s (add, for example: interfaces: [{name: eth0}])", p.file, need)
	}
	want.interfaces = attached
	p.warnUnmet(want)
	return want, nil
}

// warnUnmet logs which policies of a configuration have no effect.
func (p *packets) warnUnmet(want desired) {
	for _, u := range unmet(want.document.Policies, listedPlaces(want.interfaces)) {
		p.log.Warn("a policy meets no packet", "policy", u.Policy, "why", u.Why)
	}
}

func (p *packets) resync() {
	if err := p.reconciler.Observe(); err != nil {
		p.log.Error("can't read what is attached", "error", err)
	}
	p.update()
}

// update leaves the errors to the reconciler, which logged each with its interface.
func (p *packets) update() {
	p.changed = true
	_ = p.reconciler.Update(time.Now())
}

// sweepBans makes room, and lets the kernel stop looking for bans once there are none.
func (p *packets) sweepBans() {
	if _, err := p.dir.SweepBans(); err != nil && !errors.Is(err, loader.ErrNothingAttached) {
		p.log.Error("can't sweep the bans that are over", "error", err)
	}
}

// tend does at each tick what nothing else occasions.
func (p *packets) tend() {
	p.resync()
	p.sweepBans()
}

// missing lists the interfaces of the file that are not enforced as it says.
func (p *packets) missing() []server.Missing { return p.reconciler.Missing() }

// openEvents makes the daemon the listener to the events, so that many can look at once. A daemon that
// can't listen limits all the same.
func (p *packets) openEvents(runDir string, attachments func() ([]loader.Attachment, error)) {
	events, err := p.dir.OpenEvents(runDir)
	if err != nil {
		p.log.Warn("weir top can't ask this daemon", "error", err)
		return
	}
	p.events = events
	p.top = top.New(top.Options{Listener: events, Attachments: attachments, Now: loader.Monotonic, Idle: topIdle})
}

// runTop collects until ctx ends. That it fails is no reason for the daemon to end.
func (p *packets) runTop(ctx context.Context) error {
	if err := p.top.Run(ctx); err != nil {
		p.log.Error("weir top learns nothing any more", "error", err)
	}
	return nil
}

// close gives up the state directory, and leaves in force what is.
func (p *packets) close() error {
	err := p.dir.Close()
	if p.events != nil {
		err = errors.Join(err, p.events.Close())
	}
	return err
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

const (
	// resyncEvery is how often reality is compared with the file without any occasion.
	resyncEvery = 30 * time.Second
	// maxRetryDelay bounds the time until an interface that can't be attached to is tried again.
	maxRetryDelay = 16 * resyncEvery
)

// kernel is what a reconciler changes.
type kernel interface {
	// AttachAll attaches all or, on an error, none, and leaves what was there before. The answers are in
	// the order of the options.
	AttachAll([]loader.AttachOptions) ([]*loader.Attachment, error)
	Detach(point) error
	Attachments() ([]loader.Attachment, error)
}

// point is where a program is attached: an interface may have one at each of its hooks.
type point struct {
	name string
	hook config.Hook
}

func pointOf(i config.Interface) point { return point{i.Name, cmp.Or(i.Hook, config.HookXDP)} }

func (p point) String() string { return fmt.Sprintf("%s (%s)", p.name, p.hook) }

// desired is what a file asks of the kernel.
type desired struct {
	interfaces []config.Interface
	document   policy.Document
	entries    int // of the bucket table
}

// kernelPolicies are those that the kernel enforces on one interface or another.
func (d desired) kernelPolicies() []policy.Policy { return policy.KernelPolicies(d.document.Policies) }

// options says what one interface is to enforce.
func (d desired) options(i config.Interface) loader.AttachOptions {
	return attachOptions(pointOf(i), loader.Mode(i.Mode), d)
}

// reconciler makes the kernel like the file. Its methods may be repeated at any time, and change only
// what is not yet as it should be. It is not safe for concurrent use.
type reconciler struct {
	kernel    kernel
	namespace uint64 // the inode of the network namespace whose interfaces are meant
	// exists tells whether there is an interface of that name.
	exists func(name string) bool
	log    *slog.Logger

	want   desired
	states map[point]*pointState // of the wanted ones
}

// pointState is what became of a hook of an interface that the file lists.
type pointState struct {
	// index is that of the interface which is attached to; 0: none.
	index int
	// err says why the interface is not enforced as the file says; nil: it is.
	err error
	// seen is the index of the interface when it was last tried or announced; 0: there was none.
	seen int
	// delay is how long after a failure it is tried again, at retryAt.
	delay   time.Duration
	retryAt time.Time
}

// errPending is the state of an interface that was not tried yet.
var errPending = errors.New("not attached yet")

// Update attaches to every wanted interface that is not enforced as the file says, and whose time for
// another try has come. It goes on after a failure, and returns what failed now. An interface that
// does not exist is no failure: Missing names it.
func (r *reconciler) Update(now time.Time) error {
	var errs []error
	for _, i := range r.want.interfaces {
		s := r.states[pointOf(i)]
		if s.err == nil || now.Before(s.retryAt) {
			continue
		}
		if err := r.attach(i, s, now); err != nil && !errors.Is(err, loader.ErrNoInterface) {
			errs = append(errs, fmt.Errorf("interface %s: %w", pointOf(i), err))
		}
	}
	return errors.Join(errs...)
}

func (r *reconciler) attach(i config.Interface, s *pointState, now time.Time) error {
	a, err := r.kernel.AttachAll([]loader.AttachOptions{r.want.options(i)})
	if err != nil {
		r.failed(pointOf(i), s, err, now)
		return err
	}
	r.attached(i, a[0])
	*s = pointState{index: a[0].Index, seen: a[0].Index}
	return nil
}

func (r *reconciler) attached(i config.Interface, a *loader.Attachment) {
	log := r.log.With("interface", a.Interface, "hook", pointOf(i).hook, "mode", a.Mode, "policies", len(a.Policies), "program", a.Program.ID)
	if fault := pacingFault(a); fault != "" {
		log.Warn("packets are not held back as a policy wants it", "why", fault)
	}
	if a.Mode == loader.ModeGeneric && i.Mode != config.AttachGeneric {
		log.Warn("enforced in generic mode, which costs more for each packet, as the driver has no native XDP")
		return
	}
	log.Info("enforced")
}

// failed notes why an interface can't be attached to, and when to try again. One that does not exist
// costs nothing to look for, so it is looked for every time, and talked of once.
func (r *reconciler) failed(p point, s *pointState, err error, now time.Time) {
	missing, known := errors.Is(err, loader.ErrNoInterface), errors.Is(s.err, loader.ErrNoInterface)
	s.err = err
	if missing {
		s.index, s.seen, s.delay, s.retryAt = 0, 0, 0, time.Time{}
		if !known {
			r.log.Warn("interface is missing; it is attached to when it appears", "interface", p.name, "hook", p.hook)
		}
		return
	}
	s.delay = min(max(2*s.delay, resyncEvery), maxRetryDelay)
	s.retryAt = now.Add(s.delay)
	r.log.Error("can't enforce the file's policies", "interface", p.name, "hook", p.hook, "error", err, "retry_in", s.delay)
}

// Observe compares what was attached with what is, so that the next Update mends what was lost.
func (r *reconciler) Observe() error {
	all, err := r.own()
	if err != nil {
		return err
	}
	actual := make(map[point]int, len(all))
	for _, a := range all {
		if a.State == loader.StateAttached {
			actual[attachmentPoint(a)] = a.Index
		}
	}
	for p, s := range r.states {
		if s.index != 0 && actual[p] != s.index {
			r.lost(p, s)
		}
	}
	return nil
}

func (r *reconciler) lost(p point, s *pointState) {
	r.log.Warn("interface has vanished, or is not attached to any more", "interface", p.name, "hook", p.hook)
	*s = pointState{err: fmt.Errorf("%s: %w any more", p.name, loader.ErrNoInterface)}
}

// LinkChanged takes note of what the kernel said of an interface, and tells whether there is something
// to do for Update. It costs nothing for the many changes that do not matter.
func (r *reconciler) LinkChanged(c linkChange) (todo bool) {
	r.noteRename(c)
	for p, s := range r.states {
		if p.name == c.name && r.stateChanged(p, s, c) {
			todo = true
		}
	}
	return todo
}

func (r *reconciler) stateChanged(p point, s *pointState, c linkChange) (todo bool) {
	if c.gone {
		if s.index == c.index || s.seen == c.index {
			r.lost(p, s)
		}
		return false
	}
	if s.index == c.index {
		return false
	}
	if s.seen != c.index {
		// Another interface than the one that failed.
		s.seen, s.delay, s.retryAt = c.index, 0, time.Time{}
	}
	if s.err == nil {
		s.err = errPending
	}
	return true
}

// noteRename takes note of a wanted interface that has another name now.
func (r *reconciler) noteRename(c linkChange) {
	for p, s := range r.states {
		if s.index == c.index && p.name != c.name && s.index != 0 {
			r.lost(p, s)
		}
	}
}

// Missing lists the interfaces that are not enforced as the file says.
func (r *reconciler) Missing() []server.Missing {
	var missing []server.Missing
	for _, i := range r.want.interfaces {
		p := pointOf(i)
		if s := r.states[p]; s.err != nil {
			missing = append(missing, server.Missing{Interface: p.name, Hook: string(p.hook), Reason: s.err.Error()})
		}
	}
	return missing
}

package main

import (
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
	Attach(loader.AttachOptions) (*loader.Attachment, error)
	Detach(iface string) error
	Attachments() ([]loader.Attachment, error)
}

var _ kernel = (*loader.StateDir)(nil)

// desired is what a file asks of the kernel.
type desired struct {
	interfaces []config.Interface
	policies   []policy.Policy // as policy.KernelPolicies orders them
	entries    int             // of the bucket table
}

// reconciler makes the kernel like the file. Its methods may be repeated at any time, and change only
// what is not yet as it should be. It is not safe for concurrent use.
type reconciler struct {
	kernel    kernel
	namespace uint64 // the inode of the network namespace whose interfaces are meant
	log       *slog.Logger

	want   desired
	states map[string]*interfaceState // of the wanted interfaces, by name
}

// interfaceState is what became of an interface that the file lists.
type interfaceState struct {
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

// Want says what the kernel is to be like. It changes nothing: Update and Prune do.
func (r *reconciler) Want(want desired) {
	states := make(map[string]*interfaceState, len(want.interfaces))
	for _, i := range want.interfaces {
		s := &interfaceState{err: errPending}
		if old := r.states[i.Name]; old != nil {
			s.index, s.seen = old.index, old.seen
		}
		states[i.Name] = s
	}
	r.want, r.states = want, states
}

// Update attaches to every wanted interface that is not enforced as the file says, and whose time for
// another try has come. It goes on after a failure, and returns what failed now. An interface that
// does not exist is no failure: Missing names it.
func (r *reconciler) Update(now time.Time) error {
	var errs []error
	for _, i := range r.want.interfaces {
		s := r.states[i.Name]
		if s.err == nil || now.Before(s.retryAt) {
			continue
		}
		if err := r.attach(i, s, now); err != nil && !errors.Is(err, loader.ErrNoInterface) {
			errs = append(errs, fmt.Errorf("interface %s: %w", i.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (r *reconciler) attach(i config.Interface, s *interfaceState, now time.Time) error {
	a, err := r.kernel.Attach(loader.AttachOptions{
		Interface: i.Name, Mode: loader.Mode(i.Mode), Policies: r.want.policies, TableEntries: r.want.entries,
	})
	if err != nil {
		r.failed(i.Name, s, err, now)
		return err
	}
	log := r.log.With("interface", a.Interface, "mode", a.Mode, "policies", len(a.Policies), "program", a.Program.ID)
	if a.Mode == loader.ModeGeneric && i.Mode != config.AttachGeneric {
		log.Warn("enforced in generic mode, which costs more for each packet, as the driver has no native XDP")
	} else {
		log.Info("enforced")
	}
	*s = interfaceState{index: a.Index, seen: a.Index}
	return nil
}

// failed notes why an interface can't be attached to, and when to try again. One that does not exist
// costs nothing to look for, so it is looked for every time, and talked of once.
func (r *reconciler) failed(name string, s *interfaceState, err error, now time.Time) {
	missing, known := errors.Is(err, loader.ErrNoInterface), errors.Is(s.err, loader.ErrNoInterface)
	s.err = err
	if missing {
		s.index, s.seen, s.delay, s.retryAt = 0, 0, 0, time.Time{}
		if !known {
			r.log.Warn("interface is missing; it is attached to when it appears", "interface", name)
		}
		return
	}
	s.delay = min(max(2*s.delay, resyncEvery), maxRetryDelay)
	s.retryAt = now.Add(s.delay)
	r.log.Error("can't enforce the file's policies", "interface", name, "error", err, "retry_in", s.delay)
}

// Observe compares what was attached with what is, so that the next Update mends what was lost.
func (r *reconciler) Observe() error {
	all, err := r.own()
	if err != nil {
		return err
	}
	actual := make(map[string]int, len(all))
	for _, a := range all {
		if a.State == loader.StateAttached {
			actual[a.Interface] = a.Index
		}
	}
	for _, i := range r.want.interfaces {
		if s := r.states[i.Name]; s.index != 0 && actual[i.Name] != s.index {
			r.lost(i.Name, s)
		}
	}
	return nil
}

func (r *reconciler) lost(name string, s *interfaceState) {
	r.log.Warn("interface has vanished, or is not attached to any more", "interface", name)
	*s = interfaceState{err: fmt.Errorf("%s: %w any more", name, loader.ErrNoInterface)}
}

// LinkChanged takes note of what the kernel said of an interface, and tells whether there is something
// to do for Update. It costs nothing for the many changes that do not matter.
func (r *reconciler) LinkChanged(c linkChange) bool {
	r.noteRename(c)
	s := r.states[c.name]
	if s == nil {
		return false
	}
	if c.gone {
		if s.index == c.index || s.seen == c.index {
			r.lost(c.name, s)
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
	for name, s := range r.states {
		if s.index == c.index && name != c.name && s.index != 0 {
			r.lost(name, s)
		}
	}
}

// Missing lists the interfaces that are not enforced as the file says.
func (r *reconciler) Missing() []server.Missing {
	var missing []server.Missing
	for _, i := range r.want.interfaces {
		s := r.states[i.Name]
		switch {
		case s.err == nil:
		case s.index != 0:
			missing = append(missing, server.Missing{
				Interface: i.Name, Reason: fmt.Sprintf("what was in force still is; the change failed: %v", s.err),
			})
		default:
			missing = append(missing, server.Missing{Interface: i.Name, Reason: s.err.Error()})
		}
	}
	return missing
}

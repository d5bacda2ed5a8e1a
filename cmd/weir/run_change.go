package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
)

// changeTries bounds how often a change is begun again because an interface vanished under it.
const changeTries = 4

// Change makes want what the kernel is to be like, on all interfaces or on none: after an error the
// kernel and the reconciler are as they were. Two kinds of interfaces do not stand in the way of the
// others: those that do not exist, and those that were failing before; what becomes of them is for
// Missing to tell. Interfaces that are not wanted any more are for Prune.
func (r *reconciler) Change(want desired, now time.Time) error {
	for try := 1; ; try++ {
		whole := r.takingPart(want)
		attached, err := r.attachWhole(want, whole)
		if err == nil {
			r.adopt(want, whole, attached)
			_ = r.Update(now) // those that took no part; each failure is logged, and is Missing
			return nil
		}
		if !errors.Is(err, loader.ErrNoInterface) || try == changeTries {
			return err
		}
	}
}

// takingPart lists the interfaces that a change has to succeed for.
func (r *reconciler) takingPart(want desired) []config.Interface {
	var whole []config.Interface
	for _, i := range want.interfaces {
		s := r.states[pointOf(i)]
		failing := s != nil && s.err != nil && s.index == 0 && !errors.Is(s.err, loader.ErrNoInterface)
		if !failing && r.exists(i.Name) {
			whole = append(whole, i)
		}
	}
	return whole
}

func (r *reconciler) attachWhole(want desired, whole []config.Interface) ([]*loader.Attachment, error) {
	if len(whole) == 0 {
		return nil, nil
	}
	options := make([]loader.AttachOptions, len(whole))
	for n, i := range whole {
		options[n] = want.options(i)
	}
	attached, err := r.kernel.AttachAll(options)
	if err == nil && len(attached) != len(whole) {
		return nil, fmt.Errorf("attached to %d interfaces of %d (this is a defect of weir, please report it)", len(attached), len(whole))
	}
	return attached, err
}

// adopt takes over a change that the kernel made.
func (r *reconciler) adopt(want desired, whole []config.Interface, attached []*loader.Attachment) {
	states := make(map[point]*pointState, len(want.interfaces))
	for _, i := range want.interfaces {
		s := &pointState{err: errPending}
		if old := r.states[pointOf(i)]; old != nil {
			s.seen = old.seen
			if errors.Is(old.err, loader.ErrNoInterface) {
				s.err = old.err // it was talked of
			}
		}
		states[pointOf(i)] = s
	}
	for n, i := range whole {
		r.attached(i, attached[n])
		*states[pointOf(i)] = pointState{index: attached[n].Index, seen: attached[n].Index}
	}
	r.want, r.states = want, states
}

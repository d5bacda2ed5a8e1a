package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
)

// Prune detaches from every hook that is attached to but not wanted. It goes on after a failure.
func (r *reconciler) Prune() error {
	return r.detach(func(p point) bool { return r.states[p] == nil })
}

// DetachAll detaches from every interface.
func (r *reconciler) DetachAll() error {
	return r.detach(func(point) bool { return true })
}

// Attached lists the interfaces that are attached to, as a file would.
func (r *reconciler) Attached() ([]config.Interface, error) {
	all, err := r.own()
	var list []config.Interface
	for _, a := range all {
		p := attachmentPoint(a)
		list = append(list, config.Interface{Name: p.name, Hook: p.hook, Mode: config.AttachAuto})
	}
	return list, err
}

// own lists the attachments of this network namespace. What somebody attached in another one by the
// same state directory is not this daemon's: it can't see those interfaces.
func (r *reconciler) own() ([]loader.Attachment, error) {
	all, err := r.kernel.Attachments()
	if err != nil && !errors.Is(err, loader.ErrNothingAttached) {
		return nil, err
	}
	return slices.DeleteFunc(all, func(a loader.Attachment) bool { return a.Namespace != r.namespace }), nil
}

func (r *reconciler) detach(unwanted func(point) bool) error {
	all, err := r.kernel.Attachments()
	if err != nil && !errors.Is(err, loader.ErrNothingAttached) {
		return err
	}
	var errs []error
	for _, a := range all {
		p := attachmentPoint(a)
		if a.Namespace != r.namespace || !unwanted(p) {
			continue
		}
		if err := r.detachOne(p, all); err != nil {
			errs = append(errs, err)
			continue
		}
		r.log.Info("detached", "interface", p.name, "hook", p.hook)
	}
	return errors.Join(errs...)
}

func (r *reconciler) detachOne(p point, all []loader.Attachment) error {
	// The loader detaches by name, in all network namespaces at once.
	if slices.ContainsFunc(all, func(b loader.Attachment) bool {
		return attachmentPoint(b) == p && b.Namespace != r.namespace
	}) {
		return fmt.Errorf("detach %s: an interface of that name is attached to in another network namespace too (run: weir detach %s, to detach both)",
			p, p.name)
	}
	if err := r.kernel.Detach(p); err != nil {
		return fmt.Errorf("detach %s: %w", p, err)
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
)

// Prune detaches every interface that is attached to but not wanted. It goes on after a failure.
func (r *reconciler) Prune() error {
	return r.detach(func(name string) bool { return r.states[name] == nil })
}

// DetachAll detaches every interface.
func (r *reconciler) DetachAll() error {
	return r.detach(func(string) bool { return true })
}

// Attached lists the interfaces that are attached to, as a file would.
func (r *reconciler) Attached() ([]config.Interface, error) {
	all, err := r.own()
	var list []config.Interface
	for _, a := range all {
		list = append(list, config.Interface{Name: a.Interface, Hook: config.HookXDP, Mode: config.AttachAuto})
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

func (r *reconciler) detach(unwanted func(name string) bool) error {
	all, err := r.kernel.Attachments()
	if err != nil && !errors.Is(err, loader.ErrNothingAttached) {
		return err
	}
	var errs []error
	for _, a := range all {
		if a.Namespace != r.namespace || !unwanted(a.Interface) {
			continue
		}
		if err := r.detachOne(a, all); err != nil {
			errs = append(errs, err)
			continue
		}
		r.log.Info("detached", "interface", a.Interface)
	}
	return errors.Join(errs...)
}

func (r *reconciler) detachOne(a loader.Attachment, all []loader.Attachment) error {
	// The loader detaches by name, in all network namespaces at once.
	if slices.ContainsFunc(all, func(b loader.Attachment) bool {
		return b.Interface == a.Interface && b.Namespace != r.namespace
	}) {
		return fmt.Errorf("detach %s: an interface of that name is attached to in another network namespace too (run: weir detach %s, to detach both)",
			a.Interface, a.Interface)
	}
	if err := r.kernel.Detach(a.Interface); err != nil {
		return fmt.Errorf("detach %s: %w", a.Interface, err)
	}
	return nil
}

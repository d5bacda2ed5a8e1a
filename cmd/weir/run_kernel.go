package main

import (
	"cmp"
	"net"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// stateKernel is the kernel by way of a state directory.
type stateKernel struct{ *loader.StateDir }

var _ kernel = stateKernel{}

// AttachAll attaches one after the other.
func (k stateKernel) AttachAll(all []loader.AttachOptions) ([]*loader.Attachment, error) {
	var attached []*loader.Attachment
	for _, o := range all {
		a, err := k.Attach(o)
		if err != nil {
			return nil, err
		}
		attached = append(attached, a)
	}
	return attached, nil
}

// Detach takes weir off one hook of an interface.
func (k stateKernel) Detach(p point) error { return k.StateDir.Detach(p.name) }

// attachOptions says what a program at one point is made of.
func attachOptions(p point, mode loader.Mode, d desired) loader.AttachOptions {
	return loader.AttachOptions{
		Interface: p.name, Mode: mode, Policies: policy.KernelPolicies(d.policies), TableEntries: d.entries,
	}
}

func attachmentPoint(a loader.Attachment) point {
	return point{a.Interface, cmp.Or(config.Hook(a.Hook), config.HookXDP)}
}

// interfaceExists asks this thread's network namespace.
func interfaceExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

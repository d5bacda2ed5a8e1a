package main

import (
	"net"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// stateKernel is the kernel by way of a state directory.
type stateKernel struct{ *loader.StateDir }

var _ kernel = stateKernel{}

// Detach takes weir off one hook of an interface.
func (k stateKernel) Detach(p point) error { return k.DetachHook(p.name, loader.Hook(p.hook)) }

// attachOptions says what the program at one point is made of.
func attachOptions(p point, mode loader.Mode, d desired) loader.AttachOptions {
	at := policy.Place{Interface: p.name, Direction: p.hook.Direction()}
	return loader.AttachOptions{
		Interface: p.name, Hook: loader.Hook(p.hook), Mode: mode,
		Policies: policy.KernelPoliciesAt(d.document.Policies, at), Allow: d.document.Allow, Deny: d.document.Deny,
		TableEntries: d.entries,
	}
}

func attachmentPoint(a loader.Attachment) point { return point{a.Interface, config.Hook(a.Hook)} }

// interfaceExists asks this thread's network namespace.
func interfaceExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

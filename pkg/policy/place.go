package policy

import "slices"

// Place is where a program of the kernel path sits: it judges the packets that
// take one way through one interface.
type Place struct {
	Interface string
	Direction Direction // ingress or egress
}

// KernelPoliciesAt returns the policies that the program at a place has to
// enforce, in the order of [KernelPolicies]: those whose match.interfaces and
// match.direction it satisfies. A policy that one of them replaces may not be
// among them. The result is a new slice.
func KernelPoliciesAt(policies []Policy, at Place) []Policy {
	return slices.DeleteFunc(KernelPolicies(policies), func(p Policy) bool {
		return !p.Match.hasInterface(at.Interface) || !p.Match.hasDirection(at.Direction)
	})
}

func (m Match) hasInterface(name string) bool {
	return len(m.Interfaces) == 0 || slices.Contains(m.Interfaces, name)
}

func (m Match) hasDirection(d Direction) bool {
	return m.Direction == DirectionBoth || m.Direction == d
}

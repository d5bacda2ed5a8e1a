package loader

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Hook says where in a packet's way a program runs.
type Hook string

// The hooks. An attachment is to one of them; an interface may have one at each.
const (
	HookXDP       Hook = "xdp"        // on its way in, before the kernel has made a buffer of its own for it
	HookTCIngress Hook = "tc-ingress" // on its way in, before the stack sees it; after GRO has joined packets
	HookTCEgress  Hook = "tc-egress"  // on its way out, before the queueing discipline; GSO has not cut it yet
)

// Hooks returns every hook, in the order of enum hook in types.h.
func Hooks() []Hook { return []Hook{HookXDP, HookTCIngress, HookTCEgress} }

// hookTraits is what differs between the hooks.
type hookTraits struct {
	object  func() (*ebpf.CollectionSpec, error)
	program string          // the entry point, by its name in the object
	modes   []Mode          // best first
	tcx     ebpf.AttachType // of a link
	parent  uint32          // of a filter below a clsact queueing discipline
}

var hookTable = map[Hook]hookTraits{
	HookXDP: {object: loadXdp, program: xdpProgWeirXdp, modes: []Mode{ModeNative, ModeGeneric}},
	HookTCIngress: {
		object: loadTc, program: tcProgWeirTc, modes: []Mode{ModeTCX, ModeClsAct},
		tcx: ebpf.AttachTCXIngress, parent: netlink.HANDLE_MIN_INGRESS,
	},
	HookTCEgress: {
		object: loadTc, program: tcProgWeirTc, modes: []Mode{ModeTCX, ModeClsAct},
		tcx: ebpf.AttachTCXEgress, parent: netlink.HANDLE_MIN_EGRESS,
	},
}

// number is the hook's value in enum hook of types.h.
func (h Hook) number() uint32 { return uint32(slices.Index(Hooks(), h.orXDP())) }

// at is the place that the hook of an interface is to a policy.
func (h Hook) at(iface string) policy.Place {
	p := policy.Place{Interface: iface, Direction: policy.DirectionIngress}
	if h == HookTCEgress {
		p.Direction = policy.DirectionEgress
	}
	return p
}

// traits looks the hook up; "" is XDP.
func (h Hook) traits() (hookTraits, error) {
	t, ok := hookTable[h.orXDP()]
	if !ok {
		return t, fmt.Errorf("hook %q: want one of %v", h, Hooks())
	}
	return t, nil
}

func (h Hook) orXDP() Hook {
	if h == "" {
		return HookXDP
	}
	return h
}

// Modes returns the modes that may be asked for at the hook, auto first; none for a hook that does not exist.
func (h Hook) Modes() []Mode {
	t, err := h.traits()
	if err != nil {
		return nil
	}
	return append([]Mode{ModeAuto}, t.modes...)
}

// ladder is what to try for a mode that was asked for, best first.
func (h Hook) ladder(mode Mode) ([]Mode, error) {
	t, err := h.traits()
	if err != nil {
		return nil, err
	}
	switch {
	case mode == ModeAuto:
		return t.modes, nil
	case slices.Contains(t.modes, mode):
		return []Mode{mode}, nil
	}
	var names []string
	for _, m := range h.Modes() {
		names = append(names, string(m))
	}
	return nil, fmt.Errorf("attach mode %q: want one of %s at %s", mode, strings.Join(names, ", "), h.orXDP())
}

// ObjectsOf is the built-in BPF object of a hook, for tests that attach a changed one.
func ObjectsOf(h Hook) (*ebpf.CollectionSpec, error) {
	t, err := h.traits()
	if err != nil {
		return nil, err
	}
	spec, err := t.object()
	if err != nil {
		return nil, err
	}
	// The listener maps it; the library would add the flag by itself, but only later.
	for _, page := range []string{controlSection, hotSection} {
		spec.Maps[page].Flags |= unix.BPF_F_MMAPABLE
	}
	return spec, nil
}

// entryPoint names the program of an object that packets enter by.
func entryPoint(spec *ebpf.CollectionSpec) string {
	for _, t := range hookTable {
		if spec.Programs[t.program] != nil {
			return t.program
		}
	}
	return fmt.Sprint(slices.Sorted(maps.Keys(spec.Programs))) // of no use, and shown as missing
}

package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode says where on an interface an XDP program runs.
type Mode string

// The modes.
const (
	ModeAuto    Mode = "auto"    // native, or generic if the driver can't
	ModeNative  Mode = "native"  // in the driver
	ModeGeneric Mode = "generic" // in the stack, after the packet's buffer was allocated
)

// linkPins names the pin of a link by its mode.
var linkPins = map[Mode]string{ModeNative: "link-native", ModeGeneric: "link-generic"}

// attachXDP tries the modes that mode allows, best first, and says which it got. Only "not in the
// driver, as it is set up" leads on to the next: an error of any other kind must not be passed over.
func attachXDP(p *ebpf.Program, iface netlink.Link, mode Mode) (l link.Link, got Mode, refused, err error) {
	ladder := map[Mode][]Mode{
		ModeNative:  {ModeNative},
		ModeGeneric: {ModeGeneric},
		ModeAuto:    {ModeNative, ModeGeneric},
	}[mode]
	if ladder == nil {
		return nil, "", nil, fmt.Errorf("attach mode %q: want auto, native or generic", mode)
	}
	flags := map[Mode]link.XDPAttachFlags{ModeNative: link.XDPDriverMode, ModeGeneric: link.XDPGenericMode}
	var errs []error
	for _, try := range ladder {
		l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: iface.Attrs().Index, Flags: flags[try]})
		if err == nil {
			return l, try, errors.Join(errs...), nil
		}
		err = explainAttach(err, iface, try)
		errs = append(errs, err)
		if !errors.Is(err, ErrNoNativeXDP) {
			break
		}
	}
	return nil, "", nil, fmt.Errorf("attach to %s: %w", iface.Attrs().Name, errors.Join(errs...))
}

func explainAttach(err error, iface netlink.Link, mode Mode) error {
	native := map[unix.Errno]string{
		unix.EOPNOTSUPP: "use --mode generic",
		unix.ERANGE:     fmt.Sprintf("lower the MTU, which is %d, or use --mode generic", iface.Attrs().MTU),
		unix.EINVAL:     fmt.Sprintf("lower the MTU, which is %d, switch LRO off (ethtool -K %s lro off), or use --mode generic", iface.Attrs().MTU, iface.Attrs().Name),
		unix.ENOSPC:     "a veth needs as many receive queues as its other end has transmit queues (ethtool -L), or use --mode generic",
	}
	var errno unix.Errno
	if errors.As(err, &errno) && mode == ModeNative {
		if mend, ok := native[errno]; ok {
			return fmt.Errorf("%w: %w (%s)", ErrNoNativeXDP, err, mend)
		}
	}
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w since a moment ago: %w (ip link show dev %s)", ErrConflict, err, iface.Attrs().Name)
	}
	return explain(err)
}

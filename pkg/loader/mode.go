package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode says in which way a program is on its hook.
type Mode string

// The modes.
const (
	ModeAuto Mode = "auto" // the best that the hook has here
	// Of XDP.
	ModeNative  Mode = "native"  // in the driver
	ModeGeneric Mode = "generic" // in the stack, after the packet's buffer was allocated
	// Of TC.
	ModeTCX    Mode = "tcx"    // by a link, beside other programs; Linux 6.6
	ModeClsAct Mode = "clsact" // as a filter below a clsact queueing discipline
)

// linkPins names the pin of a link by its mode. That of clsact is no link, which the kernel has none of
// there, but a note: see filterHold.
var linkPins = map[Mode]string{
	ModeNative: "link-native", ModeGeneric: "link-generic", ModeTCX: "link-tcx", ModeClsAct: "link-clsact",
}

// stepsDown are the errors after which the next mode is tried. Only "not here" leads on: an error of
// any other kind must not be passed over.
func stepsDown(err error) bool { return errors.Is(err, ErrNoNativeXDP) || errors.Is(err, ErrNoTCX) }

// place attaches to an interface that has nothing of ours, in the best mode that mode allows and the
// kernel has.
func (d *StateDir) place(c *change, undo *undoStack) error {
	ladder, err := c.id.hook.ladder(c.o.Mode)
	if err != nil {
		return err
	}
	var refused []error
	for _, try := range ladder {
		if try == ModeClsAct {
			err = d.placeFilter(c, undo)
		} else {
			err = d.placeLink(c, try, undo)
		}
		if err == nil {
			c.refused = errors.Join(refused...)
			return nil
		}
		refused = append(refused, err)
		if !stepsDown(err) {
			break
		}
	}
	return fmt.Errorf("attach to %s at %s: %w", c.iface.Attrs().Name, c.id.hook, errors.Join(refused...))
}

// placeLink attaches by a link. Its pin is what makes an attachment: a process that is killed before it
// takes the link along, and leaves the interface as it was.
func (d *StateDir) placeLink(c *change, mode Mode, undo *undoStack) error {
	l, err := attachLink(c.id.hook, c.built.program, c.iface, mode)
	if err != nil {
		return explainAttach(err, c.iface, mode)
	}
	h := &linkHold{Link: l, path: d.pin(c.id.String(), linkPins[mode]), hook: c.id.hook}
	c.placed = h
	undo.push(h.release)
	if err := d.reach("attached"); err != nil {
		return err
	}
	if err := d.dropDead(c, undo); err != nil {
		return err
	}
	if err := d.pinAt(l, h.path); err != nil {
		return fmt.Errorf("pin the link: %w", err)
	}
	return nil
}

func attachLink(hook Hook, p *ebpf.Program, iface netlink.Link, mode Mode) (link.Link, error) {
	flags := map[Mode]link.XDPAttachFlags{ModeNative: link.XDPDriverMode, ModeGeneric: link.XDPGenericMode}
	if mode != ModeTCX {
		return link.AttachXDP(link.XDPOptions{Program: p, Interface: iface.Attrs().Index, Flags: flags[mode]})
	}
	t, err := hook.traits()
	if err != nil {
		return nil, err
	}
	// Behind all others: who came first goes on seeing what it saw.
	return link.AttachTCX(link.TCXOptions{Program: p, Interface: iface.Attrs().Index, Attach: t.tcx, Anchor: link.Tail()})
}

// dropDead removes the pin of a link whose interface has vanished, so that the new one takes its place.
func (d *StateDir) dropDead(c *change, undo *undoStack) error {
	if c.current.dead == nil {
		return nil
	}
	if err := c.current.dead.release(); err != nil {
		return fmt.Errorf("clear away the link to a vanished interface: %w", err)
	}
	undo.push(c.current.dead.repin)
	return d.reach("dropped")
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
	if mode == ModeTCX && errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("%w: %w (use --mode clsact)", ErrNoTCX, err)
	}
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w since a moment ago: %w (ip link show dev %s)", ErrConflict, err, iface.Attrs().Name)
	}
	return explain(err)
}

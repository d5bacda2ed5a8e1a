package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// current is what is attached before a change. It is empty if nothing is.
type current struct {
	link      link.Link // nil: not attached, or attached to an interface that has vanished
	mode      Mode
	program   *ebpf.Program
	constants *ebpf.Map
	stats     map[string]*ebpf.Map
	policies  []LoadedPolicy
}

func (c *current) close() {
	if c.link != nil {
		c.link.Close()
	}
	if c.program != nil {
		c.program.Close()
	}
	if c.constants != nil {
		c.constants.Close()
	}
	for _, m := range c.stats {
		m.Close()
	}
}

// openCurrent opens an attachment to change it. If its interface has vanished, and perhaps another
// one of that name has come, the link holds nothing any more: the counters are kept, the rest is made anew.
func (d *StateDir) openCurrent(id attachmentID, iface netlink.Link) (_ *current, err error) {
	c := &current{stats: map[string]*ebpf.Map{}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if _, err := os.Stat(d.pin(id.String())); errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	l, mode, err := d.openLink(id)
	if err != nil {
		return nil, fmt.Errorf("open the pinned link of %s: %w (run: weir detach %s)", id.iface, err, id.iface)
	}
	index, err := linkIndex(l)
	if err != nil {
		l.Close()
		return nil, err
	}
	if index == iface.Attrs().Index {
		c.link, c.mode = l, mode
	} else {
		l.Close()
	}
	if c.program, err = ebpf.LoadPinnedProgram(d.pin(id.String(), "program"), nil); err != nil {
		return nil, fmt.Errorf("open the pinned program of %s: %w (run: weir detach %s)", id.iface, err, id.iface)
	}
	if err := d.openCurrentMaps(id, c); err != nil {
		return nil, err
	}
	c.policies, err = readPolicies(c.constants)
	if errors.Is(err, ErrIncompatible) {
		err = nil // of another version: it is replaced all the same, and counts from zero
	}
	return c, err
}

// openCurrentMaps opens the constants, and the counters if this version counts in the same way.
func (d *StateDir) openCurrentMaps(id attachmentID, c *current) error {
	spec, err := loadXdp()
	if err != nil {
		return err
	}
	for name, pin := range ownMaps {
		m, err := ebpf.LoadPinnedMap(d.pin(id.String(), pin), nil)
		if err != nil {
			return fmt.Errorf("open the pinned %s of %s: %w (run: weir detach %s)", pin, id.iface, err, id.iface)
		}
		switch {
		case name == ".rodata":
			c.constants = m
		case spec.Maps[name].Compatible(m) == nil:
			c.stats[name] = m
		default:
			m.Close()
		}
	}
	return nil
}

// openLink opens the link of an attachment. Its pin is named by the mode, which the kernel tells only
// to those in the interface's network namespace.
func (d *StateDir) openLink(id attachmentID) (link.Link, Mode, error) {
	var errs []error
	for mode, pin := range linkPins {
		l, err := link.LoadPinnedLink(d.pin(id.String(), pin), nil)
		if err == nil {
			return l, mode, nil
		}
		errs = append(errs, err)
	}
	return nil, "", errors.Join(errs...)
}

// linkIndex is the index of the interface that a link is on; 0 once it has vanished.
func linkIndex(l link.Link) (int, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("read the link's interface: %w", err)
	}
	xdp := info.XDP()
	if xdp == nil {
		return 0, fmt.Errorf("%w: the pinned link is of type %v, want XDP", ErrIncompatible, info.Type)
	}
	return int(xdp.Ifindex), nil
}

package loader

import (
	"errors"
	"fmt"

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

// find names the attachment to an interface: by the link, as the interface may have been renamed since,
// else by the name, under which an interface that vanished may have left one.
func (d *StateDir) find(iface netlink.Link) (attachmentID, error) {
	namespace, err := netNamespace()
	if err != nil {
		return attachmentID{}, err
	}
	ids, err := d.attachmentIDs()
	if err != nil {
		return attachmentID{}, err
	}
	named := attachmentID{string(HookXDP), iface.Attrs().Name, namespace}
	for _, id := range ids {
		if id.namespace != namespace {
			continue
		}
		state, err := d.stateOn(id, iface)
		switch {
		case err != nil:
			return id, err
		case state == linkHere:
			return id, nil
		case id == named && state == linkElsewhere:
			return id, fmt.Errorf("%w: what is attached as %s is on another interface now, which was renamed or moved (run: weir detach %s, which takes it off that one)",
				ErrIncompatible, id.iface, id.iface)
		}
	}
	return named, nil
}

// linkState says where a link is, as seen from one interface.
type linkState int

const (
	linkGone linkState = iota // its interface has vanished
	linkHere
	linkElsewhere
)

func (d *StateDir) stateOn(id attachmentID, iface netlink.Link) (linkState, error) {
	l, _, err := d.openLink(id)
	if err != nil {
		return 0, fmt.Errorf("open the pinned link of %s: %w (run: weir detach %s)", id.iface, err, id.iface)
	}
	defer l.Close()
	return stateOn(l, iface)
}

// stateOn compares indices and programs: an interface that moved to another network namespace takes
// its link along, and its index may be another interface's here.
func stateOn(l link.Link, iface netlink.Link) (linkState, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("read the link's interface: %w", err)
	}
	index, err := linkIndex(info)
	if err != nil || index == 0 {
		return linkGone, err
	}
	xdp := iface.Attrs().Xdp
	if index == iface.Attrs().Index && xdp != nil && xdp.ProgId == uint32(info.Program) {
		return linkHere, nil
	}
	return linkElsewhere, nil
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
	if !exists(d.pin(id.String())) {
		return c, nil
	}
	l, mode, err := d.openLink(id)
	if err != nil {
		return nil, fmt.Errorf("open the pinned link of %s: %w (run: weir detach %s)", id.iface, err, id.iface)
	}
	state, err := stateOn(l, iface)
	if err != nil {
		l.Close()
		return nil, err
	}
	if state == linkHere {
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
	for _, name := range append([]string{".rodata"}, countingMaps...) {
		pin := ownMaps[name]
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
func linkIndex(info *link.Info) (int, error) {
	xdp := info.XDP()
	if xdp == nil {
		return 0, fmt.Errorf("%w: the pinned link is of type %v, want XDP", ErrIncompatible, info.Type)
	}
	return int(xdp.Ifindex), nil
}

package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// current is what is attached before a change. It is empty if nothing is.
type current struct {
	hold     hold // nil: not attached, or to an interface that has vanished
	dead     hold // what is left of an attachment whose interface has vanished, or that was taken off
	mode     Mode
	program  *ebpf.Program
	stats    map[string]*ebpf.Map
	policies []LoadedPolicy
}

func (c *current) close() {
	for _, h := range []hold{c.hold, c.dead} {
		if h != nil {
			h.close()
		}
	}
	if c.program != nil {
		c.program.Close()
	}
	for _, m := range c.stats {
		m.Close()
	}
}

// find names the attachment to a hook of an interface: by the hold, as the interface may have been
// renamed since, else by the name, under which an interface that vanished may have left one.
func (d *StateDir) find(hook Hook, iface netlink.Link) (attachmentID, error) {
	namespace, err := netNamespace()
	if err != nil {
		return attachmentID{}, err
	}
	ids, err := d.attachmentIDs()
	if err != nil {
		return attachmentID{}, err
	}
	named := attachmentID{hook.orXDP(), iface.Attrs().Name, namespace}
	for _, id := range ids {
		if id.namespace != namespace || id.hook != named.hook {
			continue
		}
		state, err := d.stateOn(id, iface)
		switch {
		case err != nil:
			return id, err
		case state == holdHere:
			return id, nil
		case id == named && state == holdElsewhere:
			return id, fmt.Errorf("%w: what is attached as %s is on another interface now, which was renamed or moved (run: weir detach %s, which takes it off that one)",
				ErrIncompatible, id.iface, id.iface)
		}
	}
	return named, nil
}

// holdState says where a hold is, as seen from one interface.
type holdState int

const (
	holdGone holdState = iota // its interface has vanished, or somebody took it off
	holdHere
	holdElsewhere
)

func (d *StateDir) stateOn(id attachmentID, iface netlink.Link) (holdState, error) {
	h, _, err := d.openHold(id)
	if errors.Is(err, errUnattached) {
		return holdGone, nil
	}
	if err != nil {
		return holdGone, err
	}
	defer h.close()
	return stateOn(h, iface)
}

func stateOn(h hold, iface netlink.Link) (holdState, error) {
	at, err := h.whereabouts()
	if err != nil || at.index == 0 || at.program == 0 {
		return holdGone, err
	}
	on, err := h.on(iface)
	if err != nil || !on {
		return holdElsewhere, err
	}
	return holdHere, nil
}

// openCurrent opens an attachment to change it. If its interface has vanished, and perhaps another
// one of that name has come, the hold has nothing any more: the counters are kept, the rest is made anew.
// iface is where the hold is to be; nil: wherever it is.
func (d *StateDir) openCurrent(id attachmentID, iface netlink.Link) (_ *current, err error) {
	c := &current{stats: map[string]*ebpf.Map{}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	h, mode, err := d.openHold(id)
	if errors.Is(err, errUnattached) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	at, err := h.whereabouts()
	alive := at.index != 0 && at.program != 0
	if alive && iface != nil {
		alive, err = h.on(iface)
	}
	if alive {
		c.hold, c.mode = h, mode
	} else {
		c.dead = h
	}
	if err != nil {
		return nil, err
	}
	set, err := d.setOf(id, at)
	if err != nil {
		return nil, err
	}
	if err := d.openCurrentSet(id, set, c); err != nil {
		return nil, fmt.Errorf("open what is pinned for %s: %w (run: weir detach %s)", id.iface, err, id.iface)
	}
	return c, nil
}

// openCurrentSet opens the program, and the counters if this version counts in the same way.
func (d *StateDir) openCurrentSet(id attachmentID, set string, c *current) (err error) {
	if c.program, err = ebpf.LoadPinnedProgram(d.pin(set, "program"), nil); err != nil {
		return fmt.Errorf("program: %w", err)
	}
	constants, err := d.openMap(set, "constants")
	if err != nil {
		return err
	}
	defer constants.Close()
	c.policies, err = readPolicies(id.hook, constants)
	if errors.Is(err, ErrIncompatible) {
		err = nil // of another version: it is replaced all the same, and counts from zero
	}
	if err != nil {
		return err
	}
	return d.openCurrentStats(id, set, c)
}

func (d *StateDir) openCurrentStats(id attachmentID, set string, c *current) error {
	spec, err := ObjectsOf(id.hook)
	if err != nil {
		return err
	}
	for _, name := range []string{xdpMapPolicyStats, xdpMapInterfaceStats} {
		m, err := ebpf.LoadPinnedMap(d.pin(set, ownMaps[name]), nil)
		if err != nil {
			return fmt.Errorf("%s: %w", ownMaps[name], err)
		}
		if spec.Maps[name].Compatible(m) != nil {
			m.Close()
			continue
		}
		c.stats[name] = m
	}
	return nil
}

package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/policy"
)

// AttachOptions says what to attach. All fields but Objects are required.
type AttachOptions struct {
	Interface string
	Mode      Mode
	// Hook is where on the interface; the zero value is [HookXDP].
	Hook Hook
	// Policies are enforced in this order: see policy.KernelPolicies. None is allowed: every packet passes.
	Policies []policy.Policy
	// Allow and Deny are source prefixes that are judged before any policy; who is in both is allowed.
	Allow, Deny []netip.Prefix
	// TableEntries is a power of two, 4 or more. It must be that of the pinned table, if there is one.
	TableEntries int
	// Objects replaces the built-in program, for tests of an upgrade. nil: the built-in one.
	Objects *ebpf.CollectionSpec
}

func (o *AttachOptions) ruleset() ruleset { return ruleset{o.Policies, o.Allow, o.Deny} }

// Attach makes the interface enforce the policies: anew, or by updating what is attached there, with
// every bucket's state and the counters of the policies that stay. It is all or nothing: on an error
// everything is as it was.
func (d *StateDir) Attach(o AttachOptions) (_ *Attachment, err error) {
	var undo undoStack
	defer func() { undo.runIf(err) }()

	iface, err := findInterface(o.Interface)
	if err != nil {
		return nil, err
	}
	if err := checkEthernet(iface); err != nil {
		return nil, err
	}
	id, err := d.find(iface)
	if err != nil {
		return nil, err
	}
	current, err := d.openCurrent(id, iface)
	if err != nil {
		return nil, err
	}
	defer current.close()
	if err := checkAttach(iface, o.Mode, current); err != nil {
		return nil, err
	}
	b, err := d.build(o, current, &undo)
	if err != nil {
		return nil, err
	}
	defer b.close()
	var refused error
	if current.link != nil {
		err = d.replace(id, current, b)
	} else {
		refused, err = d.place(id, iface, o.Mode, b, &undo)
	}
	if err != nil {
		return nil, err
	}
	a, err := d.readAttachment(id)
	if err != nil {
		return nil, err
	}
	a.NativeRefused = refused
	return a, nil
}

// checkAttach refuses what could only be had by taking something off the interface first.
func checkAttach(iface netlink.Link, mode Mode, current *current) error {
	if current.link != nil {
		if mode != ModeAuto && mode != current.mode {
			return fmt.Errorf("%w: weir is on %s in %s mode, and a link can't change its mode (run: weir detach %s)",
				ErrIncompatible, iface.Attrs().Name, current.mode, iface.Attrs().Name)
		}
		return nil
	}
	xdp := iface.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return nil
	}
	return fmt.Errorf("%w to %s: %s; remove it first (ip link set dev %s xdp off, or the tool that put it there), or chain both with a dispatcher",
		ErrConflict, iface.Attrs().Name, describeProgram(xdp.ProgId), iface.Attrs().Name)
}

// place attaches to an interface that has nothing of ours. refused says why the mode is generic, if
// native was allowed.
func (d *StateDir) place(id attachmentID, iface netlink.Link, mode Mode, b *built, undo *undoStack) (refused, err error) {
	l, got, refused, err := attachXDP(b.program, iface, mode)
	if err != nil {
		return nil, err
	}
	defer l.Close() // the pin holds it; without one, closing detaches
	if err := l.Pin(d.pin(tmpName, linkPins[got])); err != nil {
		return nil, fmt.Errorf("pin the link: %w", err)
	}
	undo.push(l.Unpin)
	if !exists(d.pin(id.String())) {
		if err := os.Rename(d.pin(tmpName), d.pin(id.String())); err != nil {
			return nil, fmt.Errorf("publish the attachment: %w", err)
		}
		return refused, nil
	}
	// What is there belongs to an interface that has vanished: see find. The link comes last, as it is
	// what makes the rest true.
	for mode, pin := range linkPins {
		if mode == got {
			continue
		}
		if err := os.Remove(d.pin(id.String(), pin)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("clear away the link to a vanished interface: %w", err)
		}
	}
	return refused, d.publish(id, append(slices.Clone(loadedPins), linkPins[got])...)
}

// loadedPins are what a load makes anew, the counters only if another version made the old ones.
var loadedPins = []string{"program", "constants", "policy_stats", "interface_stats", "sources4", "sources6", "ports"}

// publish moves pins from where they were made to where readers look for them. Each takes the place of
// an old one in one step, so that a reader without the lock always finds something.
func (d *StateDir) publish(id attachmentID, names ...string) error {
	for _, name := range names {
		if err := os.Rename(d.pin(tmpName, name), d.pin(id.String(), name)); err != nil {
			return fmt.Errorf("publish the new %s: %w", name, err)
		}
	}
	d.clearLeftovers()
	return nil
}

// replace swaps the program on the interface: one packet meets the old one, the next the new one.
func (d *StateDir) replace(id attachmentID, current *current, b *built) error {
	if err := current.link.Update(b.program); err != nil {
		return fmt.Errorf("swap the program on %s: %w", id.iface, explain(err))
	}
	if err := d.publish(id, loadedPins...); err != nil {
		return errors.Join(err, d.restore(id, current))
	}
	return nil
}

// restore puts the old program back, on the interface and into its pins.
func (d *StateDir) restore(id attachmentID, current *current) error {
	if err := current.link.Update(current.program); err != nil {
		return fmt.Errorf("put the old program back: %w", err)
	}
	errs := []error{
		repin(d.pin(id.String(), "program"), current.program),
		repin(d.pin(id.String(), "constants"), current.constants),
	}
	for name, m := range current.stats {
		errs = append(errs, repin(d.pin(id.String(), ownMaps[name]), m))
	}
	return errors.Join(errs...)
}

func repin(path string, object interface{ Pin(string) error }) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return object.Pin(path)
}

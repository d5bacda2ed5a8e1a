package loader

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// AttachOptions says what to attach. All fields but Hook and Objects are required.
type AttachOptions struct {
	Interface string
	// Hook is where on the interface; "" is XDP.
	Hook Hook
	// Mode is one of the hook's: see [Hook.Modes].
	Mode Mode
	// Policies are enforced in this order: see policy.KernelPolicies. None is allowed: every packet passes.
	Policies []policy.Policy
	// Allow and Deny are source prefixes that are judged before any policy; who is in both is allowed.
	Allow, Deny []netip.Prefix
	// TableEntries is a power of two, 4 or more. It must be that of the pinned table, if there is one.
	TableEntries int
	// Objects replaces the hook's built-in object, for tests of an upgrade. nil: the built-in one.
	Objects *ebpf.CollectionSpec
}

func (o *AttachOptions) ruleset() ruleset { return ruleset{o.Policies, o.Allow, o.Deny} }

// AttachError says which of several attachments failed. Its text is that of Err, which names the interface.
type AttachError struct {
	Interface string
	Hook      Hook
	Err       error
}

func (e *AttachError) Error() string { return e.Err.Error() }
func (e *AttachError) Unwrap() error { return e.Err }

// Attach makes the interface enforce the policies: anew, or by updating what is attached there, with
// every bucket's state and the counters of the policies that stay. It is all or nothing: on an error
// everything is as it was.
func (d *StateDir) Attach(o AttachOptions) (*Attachment, error) {
	all, err := d.AttachAll([]AttachOptions{o})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// AttachAll attaches to several hooks or interfaces in one transaction: it loads every program before it
// changes the first hook, and if one of them can't be changed it changes the others back. An error is an
// [*AttachError] if one of the attachments is at fault. The result is in the order of all.
func (d *StateDir) AttachAll(all []AttachOptions) ([]*Attachment, error) {
	return d.change(func(t *transaction) error {
		for _, o := range all {
			if err := t.add(o); err != nil {
				return &AttachError{Interface: o.Interface, Hook: o.Hook.orXDP(), Err: err}
			}
		}
		return nil
	})
}

// Apply gives everything that is attached, in whichever network namespace, new policies and lists in one
// transaction, as AttachAll does: each place what concerns it. What has vanished keeps its old one: it is attached anew when it returns.
// It fails with [ErrNothingAttached] if there is nothing to change.
func (d *StateDir) Apply(document policy.Document) ([]*Attachment, error) {
	return d.change(func(t *transaction) error {
		all, err := d.Attachments()
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
		}
		entries, err := d.tableEntries()
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].State != StateAttached {
				continue
			}
			o := AttachOptions{
				Interface: all[i].Interface, Hook: all[i].Hook, Mode: ModeAuto, TableEntries: entries,
				Policies: policy.KernelPoliciesAt(document.Policies, all[i].Hook.at(all[i].Interface)),
				Allow:    document.Allow, Deny: document.Deny,
			}
			if err := t.addCurrent(o, all[i].id); err != nil {
				return &AttachError{Interface: o.Interface, Hook: o.Hook, Err: err}
			}
		}
		if len(t.changes) == 0 {
			return fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
		}
		return nil
	})
}

// change runs a transaction: what prepare adds to it is swapped in, or everything is as it was.
func (d *StateDir) change(prepare func(*transaction) error) (_ []*Attachment, err error) {
	if err := d.checkHome(); err != nil {
		return nil, err
	}
	d.sweep() // what a killed one left
	t := &transaction{dir: d}
	defer t.close()
	defer func() { t.undo.runIf(err) }()
	if err := prepare(t); err != nil {
		return nil, err
	}
	return t.commit()
}

// tableEntries is the size of the pinned table.
func (d *StateDir) tableEntries() (int, error) {
	table, err := d.openMap("table")
	if err != nil {
		return 0, err
	}
	defer table.Close()
	return int(table.MaxEntries()) * bucket.SetWays, nil
}

// transaction is a set of changes of which all come true, or none.
type transaction struct {
	dir     *StateDir
	undo    undoStack
	changes []*change
}

// change is what is to become of one attachment.
type change struct {
	o       AttachOptions
	id      attachmentID
	iface   netlink.Link // nil: wherever it is attached
	current *current
	built   *built
	placed  hold  // that the change made, if it did
	refused error // why the mode is not the best one
}

func (t *transaction) close() {
	for _, c := range t.changes {
		c.current.close()
		if c.built != nil {
			c.built.close()
		}
		if c.placed != nil {
			c.placed.close() // the pin holds it
		}
	}
}

// add prepares an attachment to an interface of this network namespace.
func (t *transaction) add(o AttachOptions) error {
	if _, err := o.Hook.ladder(o.Mode); err != nil {
		return err
	}
	iface, err := findInterface(o.Interface)
	if err != nil {
		return err
	}
	if err := checkEthernet(iface); err != nil {
		return err
	}
	id, err := t.dir.find(o.Hook, iface)
	if err != nil {
		return err
	}
	current, err := t.dir.openCurrent(id, iface)
	if err != nil {
		return err
	}
	c := &change{o: o, id: id, iface: iface, current: current}
	if err := t.note(c); err != nil {
		return err
	}
	if err := checkAttach(iface, o, current); err != nil {
		return err
	}
	return t.build(c)
}

// addCurrent prepares a change of what is attached, by its name in the state directory.
func (t *transaction) addCurrent(o AttachOptions, id attachmentID) error {
	current, err := t.dir.openCurrent(id, nil)
	if err != nil {
		return err
	}
	c := &change{o: o, id: id, current: current}
	if err := t.note(c); err != nil {
		return err
	}
	if current.hold == nil {
		return fmt.Errorf("%s: %w since a moment ago", id.iface, ErrNoInterface)
	}
	return t.build(c)
}

func (t *transaction) note(c *change) error {
	t.changes = append(t.changes, c)
	for _, other := range t.changes[:len(t.changes)-1] {
		if other.id == c.id {
			return fmt.Errorf("%s at %s is to be attached to twice", c.o.Interface, c.id.hook)
		}
	}
	return nil
}

// build loads and pins the program, which nothing uses yet.
func (t *transaction) build(c *change) (err error) {
	if err := t.dir.reach("build"); err != nil {
		return err
	}
	if c.built, err = t.dir.build(c.o, c.current, &t.undo); err != nil {
		return err
	}
	return t.dir.pinSet(c.id, c.built, &t.undo)
}

// commit makes the changes true, one after the other, and reads what came of them.
func (t *transaction) commit() ([]*Attachment, error) {
	for _, c := range t.changes {
		if err := t.swapOrPlace(c); err != nil {
			return nil, &AttachError{Interface: c.o.Interface, Hook: c.id.hook, Err: err}
		}
	}
	if err := t.dir.reach("committed"); err != nil {
		return nil, err
	}
	all := make([]*Attachment, 0, len(t.changes))
	for _, c := range t.changes {
		a, err := t.dir.readAttachment(c.id)
		if err != nil {
			return nil, &AttachError{Interface: c.o.Interface, Hook: c.id.hook, Err: err}
		}
		a.Refused = c.refused
		all = append(all, a)
	}
	t.dir.sweep() // the old sets
	return all, nil
}

func (t *transaction) swapOrPlace(c *change) error {
	if err := t.dir.reach("swap"); err != nil {
		return err
	}
	if c.current.hold == nil {
		return t.dir.place(c, &t.undo)
	}
	// One packet meets the old program, the next the new one.
	if err := c.current.hold.update(c.built.program); err != nil {
		return fmt.Errorf("swap the program on %s: %w", c.id.iface, explain(err))
	}
	t.undo.push(func() error { return c.current.hold.update(c.current.program) })
	return t.dir.reach("swapped")
}

// checkAttach refuses what could only be had by taking something off the interface first.
func checkAttach(iface netlink.Link, o AttachOptions, current *current) error {
	name := iface.Attrs().Name
	if current.hold != nil {
		if o.Mode != ModeAuto && o.Mode != current.mode {
			return fmt.Errorf("%w: weir is on %s in %s mode, and a link can't change its mode (run: weir detach %s)",
				ErrIncompatible, name, current.mode, name)
		}
		return nil
	}
	xdp := iface.Attrs().Xdp
	if o.Hook.orXDP() != HookXDP || xdp == nil || !xdp.Attached {
		return nil
	}
	return fmt.Errorf("%w to %s: %s; remove it first (ip link set dev %s xdp off, or the tool that put it there), or chain both with a dispatcher",
		ErrConflict, name, describeProgram(xdp.ProgId), name)
}

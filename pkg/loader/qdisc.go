package loader

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// placeFilter attaches by a filter, and by a queueing discipline to have it, if there is none. The note
// comes first: whoever is killed behind it leaves what the next attach or detach finds by it.
func (d *StateDir) placeFilter(c *change, undo *undoStack) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	if err := checkPlace(handle, c); err != nil {
		return err
	}
	found, err := ingressQdisc(handle, c.iface)
	if err != nil {
		return err
	}
	if found != nil && found.Type() != "clsact" && c.id.hook == HookTCEgress {
		return fmt.Errorf("%w: a queueing discipline of type %q is on %s, where clsact would be (tc qdisc del dev %s %s)",
			ErrConflict, found.Type(), c.iface.Attrs().Name, c.iface.Attrs().Name, found.Type())
	}
	note := filterNote{index: c.iface.Attrs().Index, qdisc: found == nil || d.madeQdisc(c)}
	if _, ok := c.current.dead.(*filterHold); ok {
		undo.push(c.current.dead.repin) // its note is replaced in one step
	} else if err := d.dropDead(c, undo); err != nil {
		return err
	}
	path := d.pin(c.id.String(), linkPins[ModeClsAct])
	if err := d.reach("note"); err != nil {
		return err
	}
	if err := writeFilterNote(path, note); err != nil {
		return fmt.Errorf("note that a filter is made: %w", err)
	}
	undo.push(func() error {
		h, err := d.openFilter(c.id)
		if err != nil {
			return err
		}
		defer h.close()
		return h.release()
	})
	return d.addFilter(handle, c, found == nil)
}

func (d *StateDir) addFilter(handle *netlink.Handle, c *change, qdisc bool) error {
	if err := d.reach("qdisc"); err != nil {
		return err
	}
	if qdisc {
		if err := handle.QdiscAdd(clsact(c.iface)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add a clsact queueing discipline: %w", explain(err))
		}
	}
	if err := d.reach("filter"); err != nil {
		return err
	}
	f, err := newFilter(c.id.hook, c.iface.Attrs().Index, c.built.program)
	if err != nil {
		return err
	}
	err = handle.FilterAdd(f)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w since a moment ago: %w (tc filter show dev %s)", ErrConflict, err, c.iface.Attrs().Name)
	}
	if err != nil {
		return fmt.Errorf("add a filter: %w", explain(err))
	}
	return d.reach("attached")
}

// checkPlace refuses to take the place of somebody else's filter.
func checkPlace(handle *netlink.Handle, c *change) error {
	f, err := filterOn(handle, c.iface, c.id.hook)
	if err != nil || f == nil {
		return err
	}
	what, name := fmt.Sprintf("a filter of type %s", f.Type()), c.iface.Attrs().Name
	if bpf, ok := f.(*netlink.BpfFilter); ok {
		what = fmt.Sprintf("filter %q with %s", bpf.Name, describeProgram(uint32(bpf.Id)))
	}
	return fmt.Errorf("%w to %s: %s has priority %d there, which is weir's; remove it first (tc filter del dev %s %s pref %d)",
		ErrConflict, name, what, filterPriority, name, map[Hook]string{HookTCIngress: "ingress", HookTCEgress: "egress"}[c.id.hook], filterPriority)
}

// madeQdisc tells whether an interface's clsact queueing discipline is there because of weir: then each
// of its filters says so, and the last one to go takes it along.
func (d *StateDir) madeQdisc(c *change) bool {
	ids, err := d.attachmentIDs()
	if err != nil {
		return false
	}
	for _, id := range ids {
		note, err := readFilterNote(d.pin(id.String(), linkPins[ModeClsAct]))
		if err == nil && note.qdisc && note.index == c.iface.Attrs().Index && id.namespace == c.id.namespace {
			return true
		}
	}
	return false
}

func clsact(iface netlink.Link) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: iface.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
}

// ingressQdisc is the queueing discipline that an interface's clsact would be in the place of; nil if
// there is none.
func ingressQdisc(handle *netlink.Handle, iface netlink.Link) (netlink.Qdisc, error) {
	all, err := handle.QdiscList(iface)
	if err != nil {
		return nil, fmt.Errorf("list the queueing disciplines of %s: %w", iface.Attrs().Name, explain(err))
	}
	for _, q := range all {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT {
			return q, nil
		}
	}
	return nil, nil
}

// removeUnusedQdisc removes a clsact queueing discipline that has no filter any more.
func removeUnusedQdisc(handle *netlink.Handle, iface netlink.Link) error {
	found, err := ingressQdisc(handle, iface)
	if err != nil || found == nil || found.Type() != "clsact" {
		return err
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := handle.FilterList(iface, parent)
		if err != nil || len(filters) > 0 {
			return err
		}
	}
	if err := handle.QdiscDel(clsact(iface)); err != nil && !gone(err) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove the clsact queueing discipline: %w", err)
	}
	return nil
}

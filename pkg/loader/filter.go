package loader

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Where weir's filter is among those of a clsact queueing discipline. Filters are asked in the order of
// their priorities; nothing is special about these numbers but that they are weir's.
const (
	filterPriority = 0xc3b0
	filterHandle   = 0x77656972 // "weir"
	filterName     = "weir"
)

// filterHold is a filter in direct-action mode. The kernel keeps it with the interface, and knows no
// link for it; what stands where a link's pin would be is a symbolic link that leads nowhere: its
// target is a note of what was made, for those who have to take it away. The note is written before
// anything is made, so that nothing is ever forgotten.
type filterHold struct {
	path   string
	hook   Hook
	note   filterNote
	ours   []ebpf.ProgramID // of the attachment's sets
	handle *netlink.Handle  // in the interface's network namespace; nil: that has vanished
	denied error            // why the network namespace can't be entered, though it is there
}

// filterNote is what the symbolic link says.
type filterNote struct {
	index int  // of the interface, in its own network namespace
	qdisc bool // the clsact queueing discipline is weir's own, and goes with the last filter
}

const filterNoteFormat = "ifindex=%d,qdisc=%s"

func (n filterNote) String() string {
	return fmt.Sprintf(filterNoteFormat, n.index, map[bool]string{true: "made", false: "found"}[n.qdisc])
}

func readFilterNote(path string) (n filterNote, err error) {
	target, err := os.Readlink(path)
	if err != nil {
		return n, err
	}
	var qdisc string
	if _, err := fmt.Sscanf(target, filterNoteFormat, &n.index, &qdisc); err != nil {
		return n, fmt.Errorf("%w: note %q: %w", ErrIncompatible, target, err)
	}
	n.qdisc = qdisc == "made"
	return n, nil
}

// writeFilterNote replaces the note in one step.
func writeFilterNote(path string, n filterNote) error {
	next := path + "-new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(n.String(), next); err != nil {
		return err
	}
	return os.Rename(next, path)
}

func (d *StateDir) openFilter(id attachmentID) (*filterHold, error) {
	h := &filterHold{path: d.pin(id.String(), linkPins[ModeClsAct]), hook: id.hook}
	var err error
	if h.note, err = readFilterNote(h.path); err != nil {
		return nil, fmt.Errorf("read the note of a filter on %s: %w (run: weir detach %s)", id.iface, err, id.iface)
	}
	if h.ours, err = d.sets(id); err != nil {
		return nil, err
	}
	h.handle, err = netlinkIn(id.namespace)
	switch {
	case errors.Is(err, unix.EPERM):
		h.denied = err
	case err != nil && !errors.Is(err, errNoNamespace):
		return nil, err
	}
	return h, nil
}

func (h *filterHold) close() {
	if h.handle != nil {
		h.handle.Close()
	}
}

func (h *filterHold) whereabouts() (whereabouts, error) {
	if h.denied != nil {
		return whereabouts{index: h.note.index, unknown: true}, nil
	}
	if h.handle == nil {
		return whereabouts{}, nil
	}
	iface, err := h.handle.LinkByIndex(h.note.index)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return whereabouts{}, nil
	}
	if err != nil {
		return whereabouts{}, fmt.Errorf("look up interface %d: %w", h.note.index, err)
	}
	f, err := h.find(iface)
	if err != nil || f == nil {
		return whereabouts{index: h.note.index}, err
	}
	return whereabouts{index: h.note.index, program: ebpf.ProgramID(f.Id)}, nil
}

// find looks for this attachment's own filter; nil if it is not there.
func (h *filterHold) find(iface netlink.Link) (*netlink.BpfFilter, error) {
	f, err := filterOn(h.handle, iface, h.hook)
	if bpf, ok := f.(*netlink.BpfFilter); ok && slices.Contains(h.ours, ebpf.ProgramID(bpf.Id)) {
		return bpf, nil
	}
	return nil, err
}

func (h *filterHold) on(iface netlink.Link) (bool, error) {
	if h.handle == nil || iface.Attrs().Index != h.note.index {
		return false, nil
	}
	f, err := h.find(iface)
	return f != nil, err
}

func (h *filterHold) update(p *ebpf.Program) error {
	if h.handle == nil {
		return fmt.Errorf("reach the network namespace: %w", errors.Join(errNoNamespace, h.denied))
	}
	info, err := p.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	h.ours = append(h.ours, id)
	f, err := newFilter(h.hook, h.note.index, p)
	if err != nil {
		return err
	}
	return h.handle.FilterReplace(f)
}

// release takes away the filter, if it still is there and weir's, and the queueing discipline if that
// was made for it and nobody else uses it.
func (h *filterHold) release() error {
	if h.denied != nil {
		return fmt.Errorf("enter the interface's network namespace: %w (run weir inside of it)", h.denied)
	}
	if h.handle == nil {
		return h.unpin()
	}
	iface, err := h.handle.LinkByIndex(h.note.index)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return h.unpin()
	}
	if err != nil {
		return fmt.Errorf("look up interface %d: %w", h.note.index, err)
	}
	f, err := h.find(iface)
	if err != nil {
		return err
	}
	if f != nil {
		if err := h.handle.FilterDel(f); err != nil && !gone(err) {
			return fmt.Errorf("remove the filter: %w", err)
		}
	}
	if h.note.qdisc {
		if err := removeUnusedQdisc(h.handle, iface); err != nil {
			return err
		}
	}
	return h.unpin()
}

func (h *filterHold) unpin() error { return os.Remove(h.path) }
func (h *filterHold) repin() error { return writeFilterNote(h.path, h.note) }

// gone tells that what was to be removed is not there any more, the interface included.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }

func newFilter(hook Hook, index int, p *ebpf.Program) (*netlink.BpfFilter, error) {
	t, err := hook.traits()
	if err != nil {
		return nil, err
	}
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: t.parent, Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: p.FD(), Name: filterName, DirectAction: true,
	}, nil
}

// filterOn is what has weir's place among an interface's filters, whoever put it there: a filter of
// that priority and handle, or one of another kind, which shares the priority with nobody. nil: nothing.
func filterOn(handle *netlink.Handle, iface netlink.Link, hook Hook) (netlink.Filter, error) {
	t, err := hook.traits()
	if err != nil {
		return nil, err
	}
	// Without a queueing discipline to have filters the kernel lists none, or says EINVAL.
	filters, err := handle.FilterList(iface, t.parent)
	if err != nil && !errors.Is(err, unix.EINVAL) && !gone(err) {
		return nil, fmt.Errorf("list the filters of %s: %w", iface.Attrs().Name, explain(err))
	}
	for _, f := range filters {
		a := f.Attrs()
		if a.Priority == filterPriority && (a.Handle == filterHandle || f.Type() != "bpf") {
			return f, nil
		}
	}
	return nil, nil
}

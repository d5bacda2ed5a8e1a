package loader

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Program identifies a loaded program.
type Program struct {
	ID   uint32        `json:"id"`
	Name string        `json:"name"`
	Tag  string        `json:"tag"`
	Age  time.Duration `json:"age_ns"` // since it was loaded
}

// State says whether an attachment does anything.
type State string

// The states.
const (
	StateAttached State = "attached"
	StateVanished State = "vanished" // the interface is gone; weir run attaches again when it returns
	StateRemoved  State = "removed"  // somebody took the filter off: clsact has nothing to keep it by
)

// Attachment is one interface that weir is on. It is a copy, taken when it was read.
type Attachment struct {
	Interface string
	Index     int // 0 once the interface has vanished
	// Namespace is the inode of the interface's network namespace.
	Namespace uint64
	Hook      Hook
	// Mode is that which the attachment has, never auto.
	Mode Mode
	// Refused says why the mode is not the best of its hook though auto was asked for. Only Attach knows it.
	Refused  error
	State    State
	Program  Program
	Policies []LoadedPolicy // in the order of evaluation
	// Lists are without the bans, which are no attachment\'s own: see [StateDir.Bans].
	Lists    policy.Lists
	Counters Counters

	id attachmentID
}

// Attachments reads all attachments, sorted by their pins' names.
func (d *StateDir) Attachments() ([]Attachment, error) {
	ids, err := d.attachmentIDs()
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
	}
	if err != nil {
		return nil, err
	}
	var all []Attachment
	for _, id := range ids {
		a, err := d.readAttachment(id)
		if errors.Is(err, errUnattached) {
			continue // not yet, or not any more
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *a)
	}
	return all, nil
}

func (d *StateDir) readAttachment(id attachmentID) (*Attachment, error) {
	a := &Attachment{Interface: id.iface, Namespace: id.namespace, Hook: id.hook, id: id}
	err := d.readPlace(id, a)
	if err == nil {
		err = d.readSet(id, func(set string) error { return d.readAttachedSet(set, a) })
	}
	if err != nil {
		return nil, fmt.Errorf("read the attachment to %s: %w", id.iface, explain(err))
	}
	return a, nil
}

func (d *StateDir) readAttachedSet(set string, a *Attachment) error {
	if err := a.readProgram(d.pin(set, "program")); err != nil {
		return err
	}
	loaded, err := d.openLoaded(a.Hook, set)
	if err != nil {
		return err
	}
	a.Policies, a.Lists = loaded.policies, loaded.lists
	a.Counters, err = d.readCounters(set, a.Policies)
	return err
}

// readPlace reads where the attachment is, and what the interface is called now.
func (d *StateDir) readPlace(id attachmentID, a *Attachment) error {
	h, mode, err := d.openHold(id)
	if err != nil {
		return err
	}
	defer h.close()
	at, err := h.whereabouts()
	if err != nil {
		return err
	}
	a.Index, a.Mode = at.index, mode
	switch {
	case at.index == 0:
		a.State = StateVanished
		return nil
	case at.program == 0 && !at.unknown:
		a.State = StateRemoved
	default:
		a.State = StateAttached
	}
	here, err := netNamespace()
	if err != nil || here != a.Namespace {
		return err
	}
	iface, err := netlink.LinkByIndex(a.Index)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // moved to another namespace, where its program works on
	}
	if err != nil {
		return err
	}
	if on, err := h.on(iface); err != nil || !on {
		return err // of the same index by chance: ours was moved to another namespace
	}
	a.Interface = iface.Attrs().Name // it may have been renamed since
	return nil
}

func (a *Attachment) readProgram(pin string) error {
	p, err := ebpf.LoadPinnedProgram(pin, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	a.Program = Program{ID: uint32(id), Name: info.Name, Tag: info.Tag}
	if loaded, ok := info.LoadTime(); ok {
		a.Program.Age = max(0, sinceBoot()-loaded)
	}
	return nil
}

// decodeConstants finds the variables in a copy of .rodata: the spec knows their offsets.
func decodeConstants(spec *ebpf.CollectionSpec, data []byte) (*constants, error) {
	c := &constants{}
	for name, out := range map[string]any{
		xdpVarPolicies:           &c.policies,
		xdpVarPolicyCount:        &c.count,
		xdpVarFewSources:         &c.few,
		xdpVarFewSources4:        &c.few4,
		xdpVarFewSources6:        &c.few6,
		xdpVarSourcelessPolicies: &c.sourceless,
	} {
		v := spec.Variables[name]
		if end := v.Offset + v.Size(); int(end) > len(data) {
			return nil, fmt.Errorf("%w: constant %s ends at byte %d of %d", ErrIncompatible, name, end, len(data))
		}
		v.Value = data[v.Offset : v.Offset+v.Size()]
		if err := v.Get(out); err != nil {
			return nil, fmt.Errorf("read constant %s: %w", name, err)
		}
	}
	return c, nil
}

package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/policy"
)

// HookXDP is the one hook of this version.
const HookXDP = "xdp"

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

// AttachOptions says what to attach. All fields but Objects are required.
type AttachOptions struct {
	Interface string
	Mode      Mode
	// Policies are enforced in this order: see policy.KernelPolicies. None is allowed: every packet passes.
	Policies []policy.Policy
	// TableEntries is a power of two, 4 or more. It must be that of the pinned table, if there is one.
	TableEntries int
	// Objects replaces the built-in program, for tests of an upgrade. nil: the built-in one.
	Objects *ebpf.CollectionSpec
}

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

// build loads the program, unattached, and pins it in the directory for that.
func (d *StateDir) build(o AttachOptions, current *current, undo *undoStack) (*built, error) {
	// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK; later ones don't, and this does nothing.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise RLIMIT_MEMLOCK: %w (needs CAP_SYS_RESOURCE)", err)
	}
	spec, err := objects(o)
	if err != nil {
		return nil, err
	}
	common, err := d.openShared(spec, o.TableEntries)
	if err != nil {
		return nil, err
	}
	defer common.table.Close()
	if common.made {
		undo.push(d.removeShared)
	}
	slots, fresh := assignSlots(o.Policies, current.policies)
	c, err := encode(o.Policies, common.secret, slots)
	if err != nil {
		return nil, err
	}
	b, err := load(spec, c, common.table, current)
	if err != nil {
		return nil, err
	}
	undo.push(func() error { b.close(); return nil })
	if err := clearSlots(b.maps[xdpMapPolicyStats], fresh); err != nil {
		return nil, err
	}
	undo.push(func() error { return os.RemoveAll(d.pin(tmpName)) })
	return b, d.pinBuilt(b)
}

func objects(o AttachOptions) (*ebpf.CollectionSpec, error) {
	if o.Objects != nil {
		return o.Objects.Copy(), nil
	}
	return loadXdp()
}

// built is a loaded program with the maps that are its own.
type built struct {
	program *ebpf.Program
	maps    map[string]*ebpf.Map
}

func (b *built) close() {
	b.program.Close()
	for _, m := range b.maps {
		m.Close()
	}
}

// ownMaps are the maps that an attachment pins beside its program, by their names in the object.
var ownMaps = map[string]string{
	".rodata":            "constants",
	xdpMapPolicyStats:    "policy_stats",
	xdpMapInterfaceStats: "interface_stats",
}

func load(spec *ebpf.CollectionSpec, c *constants, table *ebpf.Map, current *current) (*built, error) {
	delete(spec.Maps, xdpMapIdentity) // for the loader alone
	sets := table.MaxEntries()
	spec.Maps[xdpMapTable].MaxEntries = sets
	multiBuffer, err := multiBuffer(spec)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]any{
		xdpVarPolicies:     c.policies,
		xdpVarPolicyLabels: c.labels,
		xdpVarEnforceCount: c.enforce,
		xdpVarPolicyCount:  c.count,
		xdpVarTableMask:    sets - 1,
		xdpVarMultiBuffer:  multiBuffer,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set constant %s: %w", name, err)
		}
	}
	replacements := map[string]*ebpf.Map{xdpMapTable: table}
	for name, m := range current.stats {
		replacements[name] = m
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return nil, fmt.Errorf("load the XDP program: %w", explain(err))
	}
	defer coll.Close()
	b := &built{program: coll.DetachProgram(xdpProgWeirXdp), maps: map[string]*ebpf.Map{}}
	for name := range ownMaps {
		b.maps[name] = coll.DetachMap(name)
	}
	return b, nil
}

// multiBuffer tells whether the kernel hands packets in several buffers to XDP programs, and if not
// takes the flag off that says that ours can have them. 5.18 is the first that does.
func multiBuffer(spec *ebpf.CollectionSpec) (uint32, error) {
	err := features.HaveProgramHelper(ebpf.XDP, asm.FnXdpGetBuffLen)
	if err == nil {
		return 1, nil
	}
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return 0, fmt.Errorf("probe the kernel for multi-buffer XDP: %w", explain(err))
	}
	spec.Programs[xdpProgWeirXdp].Flags &^= unix.BPF_F_XDP_HAS_FRAGS
	return 0, nil
}

// clearSlots zeroes the counters that a policy gets which is new.
func clearSlots(stats *ebpf.Map, slots []uint8) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	zero := make([]xdpPolicyCounters, cpus)
	for _, slot := range slots {
		if err := stats.Put(uint32(slot), zero); err != nil {
			return fmt.Errorf("clear the counters of slot %d: %w", slot, err)
		}
	}
	return nil
}

func (d *StateDir) pinBuilt(b *built) error {
	d.clearLeftovers()
	if err := os.Mkdir(d.pin(tmpName), 0o700); err != nil {
		return fmt.Errorf("make the directory to load in: %w", err)
	}
	if err := b.program.Pin(d.pin(tmpName, "program")); err != nil {
		return fmt.Errorf("pin the program: %w", err)
	}
	for name, m := range b.maps {
		if err := m.Pin(d.pin(tmpName, ownMaps[name])); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
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
	// What is there belongs to an interface that has vanished: see find.
	if err := os.Rename(d.pin(id.String()), d.pin(oldName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("set aside the attachment of a vanished interface: %w", err)
	}
	if err := os.Rename(d.pin(tmpName), d.pin(id.String())); err != nil {
		return nil, fmt.Errorf("publish the attachment: %w", err)
	}
	d.clearLeftovers()
	return refused, nil
}

// replace swaps the program on the interface: one packet meets the old one, the next the new one.
func (d *StateDir) replace(id attachmentID, current *current, b *built) error {
	if err := current.link.Update(b.program); err != nil {
		return fmt.Errorf("swap the program on %s: %w", id.iface, explain(err))
	}
	// All but the link: the counters are the same map, unless another version made them.
	for _, name := range []string{"program", "constants", "policy_stats", "interface_stats"} {
		if err := os.Rename(d.pin(tmpName, name), d.pin(id.String(), name)); err != nil {
			return errors.Join(fmt.Errorf("publish the new %s: %w", name, err), d.restore(id, current))
		}
	}
	d.clearLeftovers()
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

package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/bucket"
)

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
	defer common.close()
	if common.made {
		undo.push(d.removeShared)
	}
	p, fresh, err := newPlan(o.Hook, o.ruleset(), common.secret, current.policies)
	if err != nil {
		return nil, err
	}
	b, err := load(spec, p, common, current)
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
	xdpMapSources4:       "sources4",
	xdpMapSources6:       "sources6",
	xdpMapPorts:          "ports",
}

// countingMaps are those of ownMaps that the next program takes over; it makes the others anew.
var countingMaps = []string{xdpMapPolicyStats, xdpMapInterfaceStats}

// plan is all that makes a program of its own out of the object.
type plan struct {
	hook      Hook
	constants *constants
	classes   *classes
}

// newPlan compiles a ruleset. Policies that are running keep their counters' slots; fresh are the slots of
// those that are not.
func newPlan(h Hook, r ruleset, secret bucket.Secret, running []LoadedPolicy) (_ *plan, fresh []uint8, err error) {
	m, err := thisMachine()
	if err != nil {
		return nil, nil, err
	}
	slots, fresh := assignSlots(r.policies, running)
	p := &plan{hook: h}
	if p.constants, err = m.encode(h, r.policies, secret, slots); err != nil {
		return nil, nil, err
	}
	p.classes, err = classify(r)
	return p, fresh, err
}

func load(spec *ebpf.CollectionSpec, p *plan, common *shared, current *current) (*built, error) {
	multiBuffer, err := multiBuffer(spec)
	if err != nil {
		return nil, err
	}
	if err := p.setConstants(spec, common.table().MaxEntries(), multiBuffer); err != nil {
		return nil, err
	}
	p.sizeMaps(spec, common.table().MaxEntries())
	delete(spec.Maps, xdpMapIdentity) // for the loader alone
	replacements := map[string]*ebpf.Map{}
	for name, m := range common.maps {
		if name != xdpMapIdentity {
			replacements[name] = m
		}
	}
	for name, m := range current.stats {
		replacements[name] = m
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return nil, fmt.Errorf("load the XDP program: %w", explain(err))
	}
	defer coll.Close()
	if err := p.fillMaps(coll.Maps); err != nil {
		return nil, err
	}
	b := &built{program: coll.DetachProgram(xdpProgWeirXdp), maps: map[string]*ebpf.Map{}}
	for name := range ownMaps {
		b.maps[name] = coll.DetachMap(name)
	}
	return b, nil
}

func (p *plan) setConstants(spec *ebpf.CollectionSpec, sets, multiBuffer uint32) error {
	c := p.classes
	for name, value := range map[string]any{
		xdpVarHook:               p.hook.number(),
		xdpVarPolicies:           p.constants.policies,
		xdpVarPolicyLabels:       p.constants.labels,
		xdpVarEnforceCount:       p.constants.enforce,
		xdpVarPolicyCount:        p.constants.count,
		xdpVarTableMask:          sets - 1,
		xdpVarMultiBuffer:        multiBuffer,
		xdpVarMatchSources4:      truth(c.uses(true)),
		xdpVarMatchSources6:      truth(c.uses(false)),
		xdpVarMatchProtocol:      truth(!c.anyProtocol),
		xdpVarMatchPorts:         truth(c.ports != nil),
		xdpVarMatchEndpoint:      truth(c.endpoint != 0 || !c.anyProtocol),
		xdpVarMatchReplaces:      truth(c.replaces),
		xdpVarSourcelessPolicies: c.sourceless,
		xdpVarProtocolPolicies:   c.protocols,
		xdpVarPortlessPolicies:   c.portless,
		xdpVarEndpointPolicies:   c.endpoint,
		xdpVarHiddenDrop:         c.hiddenDrop,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set constant %s: %w", name, err)
		}
	}
	return nil
}

func truth(is bool) uint32 {
	if is {
		return 1
	}
	return 0
}

// sizeMaps makes what is not asked for as small as it can be.
func (p *plan) sizeMaps(spec *ebpf.CollectionSpec, sets uint32) {
	spec.Maps[xdpMapTable].MaxEntries = sets
	n4 := 0
	for prefix := range p.classes.sources {
		if prefix.Addr().Is4() {
			n4++
		}
	}
	spec.Maps[xdpMapSources4].MaxEntries = uint32(max(n4, 1))
	spec.Maps[xdpMapSources6].MaxEntries = uint32(max(len(p.classes.sources)-n4, 1))
	spec.Maps[xdpMapPorts].MaxEntries = uint32(max(len(p.classes.ports), 1))
}

// fillMaps writes what match.h looks up. No packet sees the maps yet.
func (p *plan) fillMaps(maps map[string]*ebpf.Map) error {
	var (
		keys4          []xdpLpmIpv4
		keys6          []xdpLpmIpv6
		rules4, rules6 []xdpSourceRule
	)
	for prefix, rule := range p.classes.sources {
		if prefix.Addr().Is4() {
			keys4, rules4 = append(keys4, xdpLpmIpv4{PrefixLength: uint32(prefix.Bits()), Address: prefix.Addr().As4()}), append(rules4, rule)
		} else {
			keys6, rules6 = append(keys6, xdpLpmIpv6{PrefixLength: uint32(prefix.Bits()), Address: prefix.Addr().As16()}), append(rules6, rule)
		}
	}
	if err := fill(maps[xdpMapSources4], keys4, rules4); err != nil {
		return err
	}
	if err := fill(maps[xdpMapSources6], keys6, rules6); err != nil {
		return err
	}
	ports := make([]uint32, len(p.classes.ports))
	for i := range ports {
		ports[i] = uint32(i)
	}
	return fill(maps[xdpMapPorts], ports, p.classes.ports)
}

func fill[K, V any](m *ebpf.Map, keys []K, values []V) error {
	if len(keys) == 0 {
		return nil
	}
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("fill a map of %d entries: %w", len(keys), explain(err))
	}
	return nil
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

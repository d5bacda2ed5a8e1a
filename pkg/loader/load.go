package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// build loads the program, unattached and not pinned.
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
	return b, nil
}

func objects(o AttachOptions) (*ebpf.CollectionSpec, error) {
	if o.Objects != nil {
		return o.Objects.Copy(), nil
	}
	return ObjectsOf(o.Hook)
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

// constantsSection is the section of the constants, which makes a map of its own.
const constantsSection = ".rodata"

// ownMaps are the maps that an attachment pins beside its program, by their names in the object.
var ownMaps = map[string]string{
	constantsSection:     "constants",
	documentMap:          "document",
	xdpMapPolicyStats:    "policy_stats",
	xdpMapInterfaceStats: "interface_stats",
	xdpMapSources4:       "sources4",
	xdpMapSources6:       "sources6",
	xdpMapPorts:          "ports",
}

func load(spec *ebpf.CollectionSpec, p *plan, common *shared, current *current) (*built, error) {
	multiBuffer, err := multiBuffer(spec)
	if err != nil {
		return nil, err
	}
	if err := p.setConstants(spec, common.table().MaxEntries(), multiBuffer); err != nil {
		return nil, err
	}
	p.sizeMaps(spec, common)
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
		return nil, fmt.Errorf("load the program: %w", explain(err))
	}
	defer coll.Close()
	if err := p.fillMaps(coll.Maps); err != nil {
		return nil, err
	}
	b := &built{program: coll.DetachProgram(entryPoint(spec)), maps: map[string]*ebpf.Map{}}
	for name := range ownMaps {
		if name != documentMap {
			b.maps[name] = coll.DetachMap(name)
		}
	}
	if b.maps[documentMap], err = makeDocument(p.ruleset); err != nil {
		delete(b.maps, documentMap)
		b.close()
		return nil, err
	}
	return b, nil
}

// multiBuffer tells whether the kernel hands packets in several buffers to XDP programs, and if not
// takes the flag off that says that ours can have them. 5.18 is the first that does.
func multiBuffer(spec *ebpf.CollectionSpec) (uint32, error) {
	if spec.Programs[xdpProgWeirXdp] == nil {
		return 0, nil
	}
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

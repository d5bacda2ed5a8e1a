package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// LayoutVersion is the version of the layout of everything that is pinned. Versions of weir that
// have the same one can adopt each other's state.
const LayoutVersion = layoutVersion

// Owner is the attachment that something pinned belongs to. It is empty for what all of them share.
type Owner struct {
	Interface string `json:"interface,omitempty"` // the name at the time of the attachment
	Hook      Hook   `json:"hook,omitempty"`
	Namespace uint64 `json:"netns,omitempty"`
}

// PinnedMap describes a map of a state directory.
type PinnedMap struct {
	Owner
	Name       string `json:"name"`
	Path       string `json:"path"`
	ID         uint32 `json:"id"`
	Type       string `json:"type"`
	KeySize    uint32 `json:"key_size"`   // bytes
	ValueSize  uint32 `json:"value_size"` // bytes; of a per-CPU map, on one CPU
	MaxEntries uint32 `json:"max_entries"`
	Memory     uint64 `json:"memory_bytes"` // by the kernel's own estimate; 0 if it gives none
}

// sharedMaps are pinned beside the attachments.
var sharedMaps = [...]string{"table", "identity"}

// Maps lists the pinned maps: the shared ones, then those of each attachment.
func (d *StateDir) Maps() ([]PinnedMap, error) {
	var all []PinnedMap
	for _, name := range sharedMaps {
		m, err := d.describeMap(Owner{}, name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a load that was interrupted, or is in progress
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *m)
	}
	own, err := perAttachment(d, "maps", d.describeOwnMaps)
	return append(all, own...), err
}

func (d *StateDir) describeOwnMaps(id attachmentID, set string) ([]PinnedMap, error) {
	var all []PinnedMap
	for _, name := range []string{"constants", "interface_stats", "policy_stats"} {
		m, err := d.describeMap(id.owner(), set, name)
		if err != nil {
			return nil, err
		}
		all = append(all, *m)
	}
	return all, nil
}

func (a attachmentID) owner() Owner {
	return Owner{Interface: a.iface, Hook: a.hook, Namespace: a.namespace}
}

func (d *StateDir) attachmentIDs() ([]attachmentID, error) {
	names, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list state directory: %w", err)
	}
	var ids []attachmentID
	for _, n := range names {
		if id, ok := parseAttachmentID(n.Name()); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// perAttachment reads something of every attachment, from the set that is in force.
func perAttachment[T any](d *StateDir, what string, read func(id attachmentID, set string) ([]T, error)) ([]T, error) {
	ids, err := d.attachmentIDs()
	if err != nil {
		return nil, err
	}
	var all []T
	for _, id := range ids {
		var some []T
		err := d.readSet(id, func(set string) (err error) {
			some, err = read(id, set)
			return err
		})
		if errors.Is(err, errUnattached) {
			continue // not yet, or not any more
		}
		if err != nil {
			return nil, fmt.Errorf("read the %s of %s: %w", what, id.iface, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func (d *StateDir) describeMap(owner Owner, pin ...string) (*PinnedMap, error) {
	m, err := d.openMap(pin...)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return nil, fmt.Errorf("read about the map %s: %w", filepath.Join(pin...), explain(err))
	}
	id, _ := info.ID()
	memory, _ := info.Memlock()
	return &PinnedMap{
		Owner: owner, Name: pin[len(pin)-1], Path: filepath.Join(append([]string{d.name}, pin...)...),
		ID: uint32(id), Type: m.Type().String(), KeySize: m.KeySize(), ValueSize: m.ValueSize(),
		MaxEntries: m.MaxEntries(), Memory: memory,
	}, nil
}

func (d *StateDir) openMap(pin ...string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(d.pin(pin...), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open the pinned map %s: %w", filepath.Join(pin...), explain(err))
	}
	return m, nil
}

// PinnedLayout is the layout version of what is pinned. The secret beside it stays where it is.
func (d *StateDir) PinnedLayout() (uint32, error) {
	id, err := d.readIdentity()
	return id.LayoutVersion, err
}

// Constants are what makes a program out of weir's object. The hash keys, which are among them, are
// secret and left out.
type Constants struct {
	Owner
	Policies    []PolicyConstants `json:"policies"` // in the order of evaluation
	TableMask   uint32            `json:"table_mask"`
	MultiBuffer uint32            `json:"multi_buffer"`
}

// PolicyConstants is a policy as the packet path computes with it.
type PolicyConstants struct {
	Name       string          `json:"name"`
	Slot       uint8           `json:"slot"`       // index of its counters
	TokenTime  uint64          `json:"token_time"` // ticks of 1/256 ns, times 2^FracBits
	FracBits   uint32          `json:"frac_bits"`
	Depth      bucket.Ticks    `json:"depth"` // ticks
	Burst      uint64          `json:"burst"` // tokens
	IPv4Mask   string          `json:"ipv4_mask"`
	IPv6Mask   string          `json:"ipv6_mask"`
	Unit       policy.Unit     `json:"unit"`
	Mode       policy.Mode     `json:"mode"`
	OnPressure policy.Pressure `json:"on_pressure"`
}

// Constants reads the constants of every attachment's program.
func (d *StateDir) Constants() ([]Constants, error) {
	return perAttachment(d, "constants", func(id attachmentID, set string) ([]Constants, error) {
		c, err := d.readConstants(id, set)
		return []Constants{c}, err
	})
}

func (d *StateDir) readConstants(id attachmentID, set string) (Constants, error) {
	c := Constants{Owner: id.owner(), Policies: []PolicyConstants{}}
	m, err := d.openMap(set, "constants")
	if err != nil {
		return c, err
	}
	defer m.Close()
	policies, err := readPolicies(id.hook, m)
	if err != nil {
		return c, err
	}
	for _, p := range policies {
		c.Policies = append(c.Policies, PolicyConstants{
			Name: p.Name, Slot: p.Slot,
			TokenTime: p.limit.TokenTime, FracBits: p.limit.FracBits, Depth: p.limit.Depth, Burst: p.limit.Burst,
			IPv4Mask: fmt.Sprintf("%08x", p.mask.IPv4),
			IPv6Mask: fmt.Sprintf("%016x%016x", p.mask.IPv6[0], p.mask.IPv6[1]),
			Unit:     p.Unit, Mode: p.Mode, OnPressure: p.OnPressure,
		})
	}
	return c, readVariables(id.hook, m, map[string]any{xdpVarTableMask: &c.TableMask, xdpVarMultiBuffer: &c.MultiBuffer})
}

// readVariables reads variables of the size that this version of weir has them in; readPolicies has
// compared the size of the whole.
func readVariables(hook Hook, rodata *ebpf.Map, variables map[string]any) error {
	spec, err := ObjectsOf(hook)
	if err != nil {
		return err
	}
	data, err := rodata.LookupBytes(uint32(0))
	if err != nil {
		return err
	}
	for name, out := range variables {
		v := spec.Variables[name]
		v.Value = data[v.Offset : v.Offset+v.Size()]
		if err := v.Get(out); err != nil {
			return fmt.Errorf("read constant %s: %w", name, err)
		}
	}
	return nil
}

// PolicyCPUs are the counters of one policy of one attachment, by CPU.
type PolicyCPUs struct {
	Owner
	Policy string                     `json:"policy"`
	Slot   uint8                      `json:"slot"`
	CPUs   []map[policy.Verdict]Count `json:"cpus"`
}

// PolicyStats reads the policies' counters without summing them over the CPUs.
func (d *StateDir) PolicyStats() ([]PolicyCPUs, error) {
	return perAttachment(d, "counters", d.readPolicyCPUs)
}

func (d *StateDir) readPolicyCPUs(id attachmentID, set string) ([]PolicyCPUs, error) {
	constants, err := d.readConstants(id, set)
	if err != nil {
		return nil, err
	}
	stats, err := d.openMap(set, "policy_stats")
	if err != nil {
		return nil, err
	}
	defer stats.Close()
	var all []PolicyCPUs
	for _, p := range constants.Policies {
		var cpus []xdpPolicyCounters
		if err := stats.Lookup(uint32(p.Slot), &cpus); err != nil {
			return nil, err
		}
		s := PolicyCPUs{Owner: id.owner(), Policy: p.Name, Slot: p.Slot}
		for _, cpu := range cpus {
			counts := map[policy.Verdict]Count{}
			for i, verdict := range verdicts {
				counts[verdict] = Count{Packets: cpu.Packets[i], Bytes: cpu.Bytes[i]}
			}
			s.CPUs = append(s.CPUs, counts)
		}
		all = append(all, s)
	}
	return all, nil
}

// InterfaceCPUs are the counters of one attachment that belong to no policy, by CPU.
type InterfaceCPUs struct {
	Owner
	CPUs []InterfaceCount `json:"cpus"`
}

// InterfaceCount is what one CPU counted; see [Counters] for what the numbers mean.
type InterfaceCount struct {
	Unparsed  map[string]uint64 `json:"unparsed"`
	Pressure  uint64            `json:"table_pressure"`
	Contended uint64            `json:"contended"`
}

// UnparsedReasons are the keys of Unparsed, in the order in which they are told.
func UnparsedReasons() []string { return slices.Clone(reasons[:]) }

// InterfaceStats reads the interfaces' counters without summing them over the CPUs.
func (d *StateDir) InterfaceStats() ([]InterfaceCPUs, error) {
	return perAttachment(d, "counters", d.readInterfaceCPUs)
}

func (d *StateDir) readInterfaceCPUs(id attachmentID, set string) ([]InterfaceCPUs, error) {
	stats, err := d.openMap(set, "interface_stats")
	if err != nil {
		return nil, err
	}
	defer stats.Close()
	var cpus []xdpInterfaceCounters
	if err := stats.Lookup(uint32(0), &cpus); err != nil {
		return nil, err
	}
	s := InterfaceCPUs{Owner: id.owner()}
	for _, cpu := range cpus {
		c := InterfaceCount{Unparsed: map[string]uint64{}, Pressure: cpu.Pressure, Contended: cpu.Contended}
		for i, reason := range reasons {
			c.Unparsed[reason] = cpu.Unparsed[i]
		}
		s.CPUs = append(s.CPUs, c)
	}
	return []InterfaceCPUs{s}, nil
}

package loader

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

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
	Scope      policy.Scope    `json:"scope"`
	Unit       policy.Unit     `json:"unit"`
	Mode       policy.Mode     `json:"mode"`
	OnPressure policy.Pressure `json:"on_pressure"`
	Lease      uint32          `json:"lease"`       // tokens that a CPU may hold at most
	Coarse     bool            `json:"coarse"`      // the coarse clock tells when a denial ends
	Pace       bool            `json:"pace"`        // what is over the limit departs later
	NewSources uint64          `json:"new_sources"` // first-seen sources at once; 0: no cap
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
	loaded, err := d.openLoaded(id.hook, set)
	if err != nil {
		return c, err
	}
	for _, p := range loaded.policies {
		c.Policies = append(c.Policies, PolicyConstants{
			Name: p.Name, Slot: p.Slot,
			TokenTime: p.rate.Limit.TokenTime, FracBits: p.rate.Limit.FracBits, Depth: p.rate.Limit.Depth, Burst: p.rate.Limit.Burst,
			IPv4Mask: fmt.Sprintf("%08x", p.mask.IPv4),
			IPv6Mask: fmt.Sprintf("%016x%016x", p.mask.IPv6[0], p.mask.IPv6[1]),
			Scope:    p.Scope, Unit: p.Unit, Mode: p.Mode, OnPressure: p.OnPressure,
			Lease: p.rate.Lease, Coarse: p.rate.Coarse != 0, Pace: p.Action == policy.ActionPace, NewSources: newSources(p.Policy),
		})
	}
	return c, readVariables(id.hook, m, map[string]any{xdpVarTableMask: &c.TableMask, xdpVarMultiBuffer: &c.MultiBuffer})
}

func newSources(p policy.Policy) uint64 {
	if p.NewSources == nil {
		return 0
	}
	return p.NewSources.Limit
}

// readVariables reads variables of the size that this version of weir has them in; openLoaded has
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

// Document is what a program was made of, as its author wrote it.
type Document struct {
	Owner
	policy.Document
}

// Documents reads what every attachment's program was made of.
func (d *StateDir) Documents() ([]Document, error) {
	return perAttachment(d, "document", func(id attachmentID, set string) ([]Document, error) {
		m, err := d.openMap(set, ownMaps[documentMap])
		if err != nil {
			return nil, err
		}
		defer m.Close()
		doc, err := readDocument(m)
		return []Document{{id.owner(), doc}}, err
	})
}

package loader

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// plan is all that makes a program of its own out of the object.
type plan struct {
	hook      Hook
	machine   machine
	ruleset   ruleset
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
	p := &plan{hook: h, machine: m, ruleset: r}
	if p.constants, err = m.encode(h, r.policies, secret, slots); err != nil {
		return nil, nil, err
	}
	p.classes, err = classify(r)
	return p, fresh, err
}

func (p *plan) setConstants(spec *ebpf.CollectionSpec, sets, multiBuffer uint32) error {
	c := p.classes
	var few [fewSources]xdpFewSource
	copy(few[:], c.few)
	for name, value := range map[string]any{
		xdpVarHook:               p.hook.number(),
		xdpVarPolicies:           p.constants.policies,
		xdpVarEnforceCount:       p.constants.enforce,
		xdpVarEnforcingPolicies:  firstBits(int(p.constants.enforce)),
		xdpVarPolicyCount:        p.constants.count,
		xdpVarTableMask:          sets - 1,
		xdpVarMultiBuffer:        multiBuffer,
		xdpVarJiffy:              uint32(p.machine.tick),
		xdpVarUses:               p.uses(),
		xdpVarFewSources:         few,
		xdpVarFewSources4:        uint32(c.few4),
		xdpVarFewSources6:        uint32(len(c.few)),
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

// firstBits has the n lowest of 64 bits set. In Go a shift by 64 is 0.
func firstBits(n int) uint64 { return ^uint64(0) >> (64 - n) }

// The values of enum use in types.h.
const (
	useTrieIPv4 = 1 << iota
	useTrieIPv6
	useFewSources
	useProtocol
	usePorts
	useEndpoint
	useReplaces
	usePace
	useShadow
	useReconciled
)

// uses is what any policy asks for.
func (p *plan) uses() (bits uint32) {
	c := p.classes
	for bit, used := range map[uint32]bool{
		useTrieIPv4:   c.uses(true),
		useTrieIPv6:   c.uses(false),
		useFewSources: len(c.few) > 0,
		useProtocol:   !c.anyProtocol,
		usePorts:      c.ports != nil,
		useEndpoint:   c.endpoint != 0 || !c.anyProtocol,
		useReplaces:   c.replaces,
		usePace:       p.constants.paces,
		useShadow:     p.constants.enforce < p.constants.count,
		useReconciled: p.constants.shared,
	} {
		if used {
			bits |= bit
		}
	}
	return bits
}

// sizeMaps makes what is not asked for as small as it can be.
func (p *plan) sizeMaps(spec *ebpf.CollectionSpec, common *shared) {
	for name, m := range common.maps {
		if own := spec.Maps[name]; own != nil { // not the identity's: see load
			own.MaxEntries = m.MaxEntries()
		}
	}
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

package loader

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The values of enum list in types.h.
const (
	listAllow = 1
	listDeny  = 2
)

// fewSources is WEIR_FEW_SOURCES.
const fewSources = len([16]xdpFewSource{})

// portCount is the size of the map of ports, if any policy asks for one.
const portCount = 1 << 16

// classes say which policies apply to a packet: in every word a bit by rank. match.h joins them.
type classes struct {
	all         uint64
	sources     map[netip.Prefix]xdpSourceRule // for the tries: of each prefix what the wider ones say too
	few         []xdpFewSource                 // instead of them; IPv4's first
	few4        int
	sourceless  uint64 // satisfied by a source that no prefix covers
	protocols   [256]uint64
	anyProtocol bool     // no policy asks for a protocol
	ports       []uint64 // nil: no policy asks for a port
	portless    uint64
	endpoint    uint64 // need to know protocol and port
	hiddenDrop  uint64
	replaces    bool
}

// classify compiles what the policies match, and the lists.
func classify(r ruleset) (*classes, error) {
	c := &classes{all: uint64(1)<<len(r.policies) - 1, anyProtocol: true}
	if len(r.policies) >= MaxPolicies {
		c.all = ^uint64(0)
	}
	c.classifySources(r)
	for rank, p := range r.policies {
		bit := uint64(1) << rank
		c.replaces = c.replaces || len(p.Replaces) > 0
		if err := c.addProtocol(bit, p.Match.Protocol); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPolicy, p.Name, err)
		}
		if p.NeedsPort() {
			c.endpoint |= bit
			if p.OnFragment == policy.FragmentDrop {
				c.hiddenDrop |= bit
			}
		}
		if len(p.Match.Ports) == 0 {
			c.portless |= bit
		} else if c.ports == nil {
			c.ports = make([]uint64, portCount)
		}
	}
	c.addPorts(r.policies)
	return c, nil
}

func (c *classes) addProtocol(bit uint64, name string) error {
	if name == "" {
		for i := range c.protocols {
			c.protocols[i] |= bit
		}
		return nil
	}
	number, ok := policy.ProtocolNumber(name)
	if !ok {
		return fmt.Errorf("unknown protocol %q", name)
	}
	c.anyProtocol = false
	c.protocols[number] |= bit
	return nil
}

func (c *classes) addPorts(policies []policy.Policy) {
	for i := range c.ports {
		c.ports[i] = c.portless
	}
	for rank, p := range policies {
		for _, r := range p.Match.Ports {
			for port := int(r.First); port <= int(r.Last); port++ {
				c.ports[port] |= 1 << rank
			}
		}
	}
}

// classifySources makes a rule for every prefix that anybody names. A trie finds the longest one that covers a
// source, so there each has in it what the shorter ones around it say.
func (c *classes) classifySources(r ruleset) {
	own := map[netip.Prefix]xdpSourceRule{}
	for rank, p := range r.policies {
		if len(p.Match.Sources) == 0 {
			c.sourceless |= 1 << rank
		}
		for _, prefix := range p.Match.Sources {
			rule := own[prefix]
			rule.Policies |= 1 << rank
			own[prefix] = rule
		}
	}
	for _, prefix := range r.deny {
		rule := own[prefix]
		rule.List = listDeny
		own[prefix] = rule
	}
	for _, prefix := range r.allow {
		rule := own[prefix]
		rule.List = listAllow
		own[prefix] = rule
	}
	if len(own) <= fewSources {
		c.addFew(own)
		return
	}
	c.sources = make(map[netip.Prefix]xdpSourceRule, len(own))
	lengths := prefixLengths(own)
	for prefix := range own {
		c.sources[prefix] = covering(own, lengths[prefix.Addr().Is4()], prefix, c.sourceless)
	}
}

// addFew lays out what is compared prefix by prefix.
func (c *classes) addFew(own map[netip.Prefix]xdpSourceRule) {
	prefixes := slices.SortedFunc(maps.Keys(own), func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, prefix := range prefixes {
		few := xdpFewSource{Rule: own[prefix]}
		if prefix.Addr().Is4() {
			c.few4++
			a := prefix.Addr().As4()
			few.Prefix[1] = uint64(binary.BigEndian.Uint32(a[:]))
			few.Mask[1] = uint64(bucket.NewMask(uint8(prefix.Bits()), 0).IPv4)
		} else {
			a := prefix.Addr().As16()
			few.Prefix = [2]uint64{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
			few.Mask = bucket.NewMask(0, uint8(prefix.Bits())).IPv6
		}
		c.few = append(c.few, few)
	}
}

// prefixLengths has the lengths that occur, by "is IPv4", rising.
func prefixLengths(rules map[netip.Prefix]xdpSourceRule) map[bool][]int {
	lengths := map[bool][]int{}
	for prefix := range rules {
		is4 := prefix.Addr().Is4()
		if !slices.Contains(lengths[is4], prefix.Bits()) {
			lengths[is4] = append(lengths[is4], prefix.Bits())
		}
	}
	slices.Sort(lengths[true])
	slices.Sort(lengths[false])
	return lengths
}

// covering joins the rules of a prefix and of all that are around it. Allow wins, however long.
func covering(rules map[netip.Prefix]xdpSourceRule, lengths []int, prefix netip.Prefix, always uint64) xdpSourceRule {
	sum := xdpSourceRule{Policies: always}
	for _, bits := range lengths {
		if bits > prefix.Bits() {
			break
		}
		around, err := prefix.Addr().Prefix(bits)
		if err != nil {
			continue // bits are those of a prefix of the same family
		}
		rule := rules[around]
		sum.Policies |= rule.Policies
		if sum.List != listAllow && rule.List != 0 {
			sum.List = rule.List
		}
	}
	return sum
}

// uses tells whether any prefix of a family is named.
func (c *classes) uses(is4 bool) bool {
	for prefix := range c.sources {
		if prefix.Addr().Is4() == is4 {
			return true
		}
	}
	return false
}

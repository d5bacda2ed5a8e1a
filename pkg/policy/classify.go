package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Packet is what the kernel path knows of a packet when it asks which policies
// apply to it. The remote end and the local port are meant: of a packet that
// goes out, its destination and its source port.
type Packet struct {
	// Source is the address of the remote end, IPv4 as such and without zone.
	Source netip.Addr
	// Protocol is IANA's number; for IPv6 that behind the extension headers.
	Protocol uint8
	// Port is the local port. It counts only if PortState is PortKnown.
	Port      uint16
	PortState PortState
	// Interface and Direction are the way that it takes.
	Interface string
	Direction Direction
}

// PortState says what is known of a packet's port.
type PortState string

// The states of a port.
const (
	PortKnown  PortState = "known"
	PortNone   PortState = "none"   // the protocol has no ports, see [HasPorts]
	PortHidden PortState = "hidden" // it may have one, which cannot be read: a later fragment
)

// Effect is what a policy does with a packet.
type Effect string

// The effects.
const (
	EffectNone   Effect = "none"   // it does not apply
	EffectCharge Effect = "charge" // it applies: its bucket decides
	EffectDrop   Effect = "drop"   // on_fragment: drop; no bucket is asked
)

// Judgement is what one policy does with a packet.
type Judgement struct {
	Policy Policy
	Effect Effect
	// Reason says in a sentence why the policy does not apply, by the first
	// dimension that excludes it, or why it drops. Empty for EffectCharge.
	Reason string
	// Key is the key of the bucket that a request is charged to, as people write
	// it: see [ClassifyRequest]. Empty if there is none, and for packets.
	Key string
}

// Classification is which lists and policies decide over a packet or a request.
type Classification struct {
	// List is the list that decides, and Prefix the entry of it that did.
	List   List
	Prefix netip.Prefix
	// Policies has a judgement for every policy: first those of the layer that
	// is asked, in the order of evaluation, then the others as given.
	Policies []Judgement
}

// Classify tells what decides over a packet. It is the reference for the
// kernel's way of asking the same: each policy is held against the packet by
// itself, field by field. The policies must be valid as a set.
func Classify(policies []Policy, lists Lists, p Packet) Classification {
	var c Classification
	for _, q := range evaluationOrder(policies) {
		effect, reason := q.judge(p)
		c.Policies = append(c.Policies, Judgement{Policy: q, Effect: effect, Reason: reason})
	}
	c.replace()
	c.judgeLists(lists, p.Source)
	return c
}

// judgeLists lets the lists decide before the policies.
func (c *Classification) judgeLists(lists Lists, source netip.Addr) {
	c.List, c.Prefix = lists.Judge(source)
	if c.List != ListNone {
		c.exclude(fmt.Sprintf("%s %s decides before any policy", c.List, c.Prefix))
	}
}

// Charged returns the policies whose buckets decide, in the order of
// evaluation. There are none if a list decides, or if a policy that enforces
// drops the packet for its hidden port.
func (c Classification) Charged() []Policy {
	for _, dropping := range c.with(EffectDrop) {
		if dropping.Mode == ModeEnforce {
			return nil
		}
	}
	return c.with(EffectCharge)
}

// Dropping returns the policies that drop the packet for its hidden port, in
// the order of evaluation; those in shadow only would.
func (c Classification) Dropping() []Policy { return c.with(EffectDrop) }

func (c Classification) with(effect Effect) []Policy {
	var policies []Policy
	for _, j := range c.Policies {
		if j.Effect == effect {
			policies = append(policies, j.Policy)
		}
	}
	return policies
}

// evaluationOrder puts what the kernel does not enforce behind what it does.
func evaluationOrder(policies []Policy) []Policy {
	return append(KernelPolicies(policies), slices.DeleteFunc(slices.Clone(policies), Policy.inKernel)...)
}

// judge holds the policy alone against the packet.
func (p Policy) judge(packet Packet) (Effect, string) {
	if reason := p.excludes(packet); reason != "" {
		return EffectNone, reason
	}
	if packet.PortState != PortHidden || !p.NeedsPort() {
		return EffectCharge, ""
	}
	const unknown = "the port is not known, as in a later fragment "
	if p.OnFragment == FragmentDrop {
		return EffectDrop, unknown + "(on_fragment: drop)"
	}
	return EffectNone, unknown + "(on_fragment: pass)"
}

// excludes returns the first dimension that excludes the packet, or nothing. A hidden
// port excludes nothing.
func (p Policy) excludes(packet Packet) string {
	m := p.Match
	number, asks := m.ProtocolNumber()
	switch {
	case p.Mode == ModeOff:
		return "mode off"
	case p.Layer != LayerKernel:
		return fmt.Sprintf("layer %s judges requests, not packets", p.Layer)
	case !m.hasInterface(packet.Interface):
		return fmt.Sprintf("interface %s is not %s", packet.Interface, among(m.Interfaces))
	case !m.hasDirection(packet.Direction):
		return fmt.Sprintf("direction %s is not %s", packet.Direction, m.Direction)
	case !m.hasSource(packet.Source):
		return fmt.Sprintf("source %s is in none of its sources", packet.Source)
	case asks && number != packet.Protocol:
		return fmt.Sprintf("protocol %s is not %s", ProtocolName(packet.Protocol), ProtocolName(number))
	case len(m.Ports) > 0 && packet.PortState == PortNone:
		return fmt.Sprintf("protocol %s has no ports", ProtocolName(packet.Protocol))
	case packet.PortState == PortKnown && !m.hasPort(packet.Port):
		return fmt.Sprintf("port %d is not %s", packet.Port, among(m.Ports))
	}
	return ""
}

// among lists what a value could have been; of many, the first few.
func among[T any](values []T) string {
	const most = 8
	words := make([]string, min(len(values), most))
	for i := range words {
		words[i] = legible(fmt.Sprint(values[i]))
	}
	if len(values) == 1 {
		return words[0]
	}
	if more := len(values) - most; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return "among " + strings.Join(words, ", ")
}

func (m Match) hasSource(source netip.Addr) bool {
	return len(m.Sources) == 0 || slices.ContainsFunc(m.Sources, func(s netip.Prefix) bool { return s.Contains(source) })
}

func (m Match) hasPort(port uint16) bool {
	return len(m.Ports) == 0 || slices.ContainsFunc(m.Ports, func(r PortRange) bool { return r.Contains(port) })
}

// replace takes out what others replace. All that match have their say, those
// that are replaced themselves too; one in shadow has none over one that enforces.
func (c *Classification) replace() {
	var matching []Policy
	for _, j := range c.Policies {
		if j.Effect != EffectNone {
			matching = append(matching, j.Policy)
		}
	}
	for i := range c.Policies {
		j := &c.Policies[i]
		by := slices.IndexFunc(matching, func(p Policy) bool {
			return slices.Contains(p.Replaces, j.Policy.Name) && (p.Mode == ModeEnforce || j.Policy.Mode == ModeShadow)
		})
		if by >= 0 && j.Effect != EffectNone {
			j.none("replaced by " + matching[by].Name)
		}
	}
}

// exclude keeps all policies that would apply from applying.
func (c *Classification) exclude(reason string) {
	for i := range c.Policies {
		if j := &c.Policies[i]; j.Effect != EffectNone {
			j.none(reason)
		}
	}
}

// none says why a policy does not apply after all.
func (j *Judgement) none(reason string) { j.Effect, j.Reason, j.Key = EffectNone, reason, "" }

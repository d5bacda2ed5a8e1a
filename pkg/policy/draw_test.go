package policy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"
)

// The generators of this file draw from few values where a coincidence is what
// matters: sources, ports and interfaces of policies that packets will meet.

func drawPorts() *rapid.Generator[PortRange] {
	return rapid.Custom(func(t *rapid.T) PortRange {
		a, b := rapid.Uint16Range(1, 65535).Draw(t, "a"), rapid.Uint16Range(1, 65535).Draw(t, "b")
		return PortRange{min(a, b), max(a, b)}
	})
}

func drawAddress() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		low := rapid.Uint32Range(0, 7).Draw(t, "low") << rapid.SampledFrom([]int{0, 4, 13, 29}).Draw(t, "shift")
		if rapid.Bool().Draw(t, "four") {
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, low)))
		}
		bytes := binary.BigEndian.AppendUint32([]byte{0x20, 1, 0xd, 0xb8, 11: 0}, low)
		return netip.AddrFrom16([16]byte(bytes))
	})
}

func drawPrefix() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		address := drawAddress().Draw(t, "address")
		return netip.PrefixFrom(address, rapid.IntRange(0, address.BitLen()).Draw(t, "bits")).Masked()
	})
}

// few draws short lists, and half of the time none.
func few[T any](of *rapid.Generator[T]) *rapid.Generator[[]T] {
	return rapid.OneOf(rapid.Just[[]T](nil), rapid.SliceOfN(of, 1, 3))
}

func drawInterface() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"eth0", "eth1", "wg-é"})
}

func drawProtocol() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just(""), rapid.SampledFrom(Protocols()),
		rapid.Map(rapid.IntRange(0, MaxProtocol), strconv.Itoa))
}

// drawKernelPolicy draws valid policies of layer kernel.
func drawKernelPolicy(name string) *rapid.Generator[Policy] {
	return rapid.Custom(func(t *rapid.T) Policy {
		p := Policy{
			Name: name, Layer: LayerKernel, Limit: rapid.Uint64Range(1, 1e8).Draw(t, "limit"),
			Window: time.Duration(rapid.Int64Range(1e9, 1e9+1e6).Draw(t, "window")), Burst: rapid.Uint64Range(1514, 1e6).Draw(t, "burst"),
			Scope:      rapid.SampledFrom([]Scope{ScopePerIP, ScopePerEndpoint, ScopeGlobal}).Draw(t, "scope"),
			Unit:       rapid.SampledFrom(Units()).Draw(t, "unit"),
			Priority:   rapid.IntRange(-2, 2).Draw(t, "priority"),
			Mode:       rapid.SampledFrom(Modes()).Draw(t, "mode"),
			OnPressure: rapid.SampledFrom(Pressures()).Draw(t, "on_pressure"),
			Match: Match{
				Sources:    few(drawPrefix()).Draw(t, "sources"),
				Protocol:   drawProtocol().Draw(t, "protocol"),
				Interfaces: few(drawInterface()).Draw(t, "interfaces"),
				Direction:  rapid.SampledFrom([]Direction{DirectionBoth, DirectionIngress, DirectionEgress}).Draw(t, "direction"),
			},
		}.WithDefaults()
		if number, asks := p.Match.ProtocolNumber(); !asks || HasPorts(number) {
			p.Match.Ports = few(drawPorts()).Draw(t, "ports")
		}
		if p.NeedsPort() {
			p.OnFragment = rapid.SampledFrom(Fragments()).Draw(t, "on_fragment")
		}
		p.drawOptions(t)
		p.Consistency = rapid.SampledFrom(append(p.consistencies(), "")).Draw(t, "consistency")
		p.OnStoreFailure = rapid.SampledFrom(append(p.storeFailures(), "")).Draw(t, "on_store_failure")
		return p
	})
}

func (p *Policy) drawOptions(t *rapid.T) {
	if p.Match.Direction == DirectionEgress {
		p.Action = rapid.SampledFrom(Actions()).Draw(t, "action")
	}
	if p.Scope != ScopePerIP {
		return
	}
	p.IPv4Prefix = rapid.Uint8Range(1, 32).Draw(t, "ipv4_prefix")
	p.IPv6Prefix = rapid.Uint8Range(1, 128).Draw(t, "ipv6_prefix")
	if p.Action == ActionDrop && rapid.Bool().Draw(t, "capped") {
		p.NewSources = &NewSources{rapid.Uint64Range(1, 1e8).Draw(t, "strangers"), time.Second}
	}
}

// drawOff draws valid policies that are off, and may have anything.
func drawOff(name string) *rapid.Generator[Policy] {
	return rapid.Custom(func(t *rapid.T) Policy {
		texts := rapid.MapOfN(rapid.StringMatching(`[A-Za-z-]{1,5}`), rapid.StringMatching(`[^*\pC]{1,5}\*?`), 1, 3)
		p := drawKernelPolicy(name).Draw(t, "kernel")
		p.Mode, p.Scope = ModeOff, rapid.SampledFrom(Scopes()).Draw(t, "scope")
		p.Layer = rapid.SampledFrom(Layers()).Draw(t, "layer")
		p.Consistency = rapid.SampledFrom(Consistencies()).Draw(t, "consistency")
		p.OnStoreFailure = rapid.SampledFrom(StoreFailures()).Draw(t, "on_store_failure")
		p.Algorithm = rapid.SampledFrom(Algorithms()).Draw(t, "algorithm")
		p.Key = drawTemplate().Draw(t, "key")
		p.Match.Methods = few(rapid.StringMatching(`[A-Z]{1,4}`)).Draw(t, "methods")
		p.Match.Endpoints = few(drawPattern()).Draw(t, "endpoints")
		p.Match.Users = few(rapid.StringMatching(`\PC{1,3}`)).Draw(t, "users")
		p.Match.Roles = few(rapid.StringMatching(`\PC{1,3}`)).Draw(t, "roles")
		p.Match.Metadata = texts.Draw(t, "metadata")
		p.Headers = map[string]string{"X-A": rapid.StringMatching(`[ -~]*`).Draw(t, "header")}
		return p
	})
}

// drawDocument draws valid documents. A policy replaces only later ones, so that no circle closes.
func drawDocument() *rapid.Generator[Document] {
	return rapid.Custom(func(t *rapid.T) Document {
		var d Document
		n := rapid.IntRange(0, 6).Draw(t, "policies")
		for i := range n {
			name := fmt.Sprintf("p%d", i)
			kernel, l7 := drawKernelPolicy(name), drawL7Policy(name)
			d.Policies = append(d.Policies, rapid.OneOf(kernel, kernel, l7, l7, drawOff(name)).Draw(t, name))
		}
		for i := range d.Policies {
			p := &d.Policies[i]
			for _, q := range d.Policies[i+1:] {
				if (p.Layer == q.Layer || p.Mode == ModeOff || q.Mode == ModeOff) && rapid.IntRange(0, 3).Draw(t, "replaces") == 0 {
					p.Replaces = append(p.Replaces, q.Name)
				}
			}
		}
		d.Allow = rapid.SliceOfNDistinct(drawPrefix(), 0, 2, rapid.ID).Draw(t, "allow")
		d.Deny = rapid.SliceOfNDistinct(drawPrefix(), 0, 2, rapid.ID).Draw(t, "deny")
		d.Allow, d.Deny = slices.Clip(d.Allow), slices.Clip(d.Deny)
		return d
	})
}

func drawPacket() *rapid.Generator[Packet] {
	return rapid.Custom(func(t *rapid.T) Packet {
		p := Packet{
			Source:    drawAddress().Draw(t, "source"),
			Protocol:  rapid.SampledFrom([]uint8{1, 6, 17, 47, 58, 132}).Draw(t, "protocol"),
			Interface: drawInterface().Draw(t, "interface"),
			Direction: rapid.SampledFrom(Directions()).Draw(t, "direction"),
			PortState: PortNone,
		}
		if HasPorts(p.Protocol) {
			p.Port, p.PortState = rapid.Uint16().Draw(t, "port"), PortKnown
		}
		if rapid.IntRange(0, 3).Draw(t, "hidden") == 0 {
			p.Port, p.PortState = 0, PortHidden
		}
		return p
	})
}

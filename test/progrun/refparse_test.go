package progrun

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/weir-limiter/weir/pkg/policy"
)

// What parse.h says of a frame, told once more and for being read: no cursor, but slices that get shorter, each of
// which is asked for its length before it is read.

// refLook is how to look at a frame.
type refLook struct {
	ports    bool // somebody asks for them
	outgoing bool // the source is the remote end's address, so the destination, and the port the local one, so the source's
}

// of picks one of two fields: of what comes in the first.
func (l refLook) of(in, out []byte) []byte {
	if l.outgoing {
		return out
	}
	return in
}

// maxExtensions is PARSE_MAX_EXTENSIONS.
const maxExtensions = 6

// refParse is what the reference sees in a frame: the packet and, if something could not be parsed, why. A reason
// without a source is one that nobody is charged for.
func refParse(frame []byte, look refLook) (p policy.Packet, reason string) {
	if len(frame) < 14 {
		return p, "truncated"
	}
	etherType, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	for tags := 0; etherType == 0x8100 || etherType == 0x88a8; tags++ {
		if tags == 2 {
			return p, "vlan_depth"
		}
		if len(rest) < 4 {
			return p, "truncated"
		}
		etherType, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	p.PortState = policy.PortNone
	switch etherType {
	case 0x0800:
		return refParseIPv4(p, rest, look)
	case 0x86dd:
		return refParseIPv6(p, rest, look)
	}
	return p, "not_ip"
}

func refParseIPv4(p policy.Packet, b []byte, look refLook) (policy.Packet, string) {
	if len(b) < 20 {
		return p, "truncated"
	}
	header := int(b[0]&15) * 4
	if b[0]>>4 != 4 || header < 20 {
		return p, "bad_header"
	}
	p.Source, p.Protocol = netip.AddrFrom4([4]byte(look.of(b[12:16], b[16:20]))), b[9]
	switch {
	case !look.ports:
		return p, ""
	case binary.BigEndian.Uint16(b[6:])&0x1fff != 0:
		p.PortState = policy.PortHidden
		return p, "later_fragment"
	case len(b) < header:
		p.PortState = policy.PortHidden
		return p, "truncated_ports"
	}
	return refParsePort(p, b[header:], look)
}

func refParseIPv6(p policy.Packet, b []byte, look refLook) (policy.Packet, string) {
	if len(b) < 40 {
		return p, "truncated"
	}
	if b[0]>>4 != 6 {
		return p, "bad_header"
	}
	const icmpv6 = 58
	next, hops, source, rest := b[6], b[7], netip.AddrFrom16([16]byte(look.of(b[8:24], b[24:40]))), b[40:]
	if next == icmpv6 && hops == 255 && len(rest) > 0 && rest[0] >= 133 && rest[0] <= 137 {
		return p, "neighbor_discovery"
	}
	p.Source, p.Protocol = source, next
	if !look.ports {
		return p, ""
	}
	for n := 0; isExtension(p.Protocol); n++ {
		var reason string
		if n == maxExtensions {
			reason = "extension_depth"
		} else {
			p.Protocol, rest, reason = refParseExtension(p.Protocol, rest)
		}
		if reason != "" {
			p.PortState = policy.PortHidden
			return p, reason
		}
	}
	return refParsePort(p, rest, look)
}

func isExtension(protocol uint8) bool {
	return slices.Contains([]uint8{0, 43, 44, 51, 60, 135, 139, 140}, protocol)
}

func refParseExtension(protocol uint8, b []byte) (next uint8, rest []byte, reason string) {
	const fragment, authentication = 44, 51
	length := 8
	switch {
	case protocol == fragment:
		if len(b) >= 8 && binary.BigEndian.Uint16(b[2:])&0xfff8 != 0 {
			return b[0], nil, "later_fragment"
		}
	case len(b) < 2:
		return protocol, nil, "truncated_ports"
	case protocol == authentication:
		length = (int(b[1]) + 2) * 4
	default:
		length = (int(b[1]) + 1) * 8
	}
	if len(b) < length {
		if protocol != fragment {
			protocol = b[0]
		}
		return protocol, nil, "truncated_ports"
	}
	return b[0], b[length:], ""
}

func refParsePort(p policy.Packet, b []byte, look refLook) (policy.Packet, string) {
	if !policy.HasPorts(p.Protocol) {
		return p, ""
	}
	if len(b) < 4 {
		p.PortState = policy.PortHidden
		return p, "truncated_ports"
	}
	p.Port, p.PortState = binary.BigEndian.Uint16(look.of(b[2:4], b[:2])), policy.PortKnown
	return p, ""
}

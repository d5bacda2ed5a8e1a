package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// IP protocol numbers that a [Frame] can carry.
const (
	ProtocolICMP   = 1
	ProtocolTCP    = 6
	ProtocolUDP    = 17
	ProtocolICMPv6 = 58
)

// EtherTypes of VLAN tags and of IP.
const (
	TPIDCustomer = 0x8100 // IEEE 802.1Q
	TPIDService  = 0x88a8 // IEEE 802.1ad, the outer tag of QinQ

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
)

// ErrFrame is the reason of every refusal to build a frame.
var ErrFrame = errors.New("invalid frame")

// VLAN is one tag.
type VLAN struct {
	TPID     uint16 // 0 means [TPIDCustomer]
	ID       uint16 // 0 to 4095
	Priority uint8  // 0 to 7
}

// Fragment makes a frame one part of a larger datagram.
type Fragment struct {
	ID     uint32 // IPv4 uses the low 16 bits
	Offset uint16 // in bytes, a multiple of 8; other than 0 the frame has no layer 4 header, only Payload
	More   bool   // others follow
}

// TCP flags.
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
)

// Frame describes an Ethernet frame with correct lengths and checksums. It is a plain value: copy and change it.
type Frame struct {
	SrcMAC, DstMAC   net.HardwareAddr // nil means all zero
	VLANs            []VLAN           // outermost first, at most 2
	Src, Dst         netip.Addr       // both of the family that the frame is to have
	TTL              uint8            // or hop limit; 0 means 64
	Protocol         uint8            // 0 means UDP; ICMP is translated to the family's
	SrcPort, DstPort uint16           // ICMP: the identifier and the sequence number of an echo request
	TCPFlags         uint8            // 0 means [TCPSyn]
	Fragment         *Fragment
	Payload          []byte
}

// Bytes builds the frame; see [Frame.Append].
func (f Frame) Bytes() ([]byte, error) { return f.Append(nil) }

// Append adds the frame, without preamble, padding or FCS, to b. Errors wrap [ErrFrame].
func (f Frame) Append(b []byte) ([]byte, error) {
	if err := f.validate(); err != nil {
		return b, err
	}
	b = f.appendEthernet(b)
	ip := len(b)
	b = f.appendIP(b)
	l4 := len(b)
	b = f.appendL4(b)
	b = append(b, f.Payload...)
	f.finish(b, ip, l4)
	return b, nil
}

func (f Frame) validate() error {
	switch {
	case !f.Src.IsValid() || !f.Dst.IsValid() || f.Src.Is4() != f.Dst.Is4() || f.Src.Is4In6() || f.Dst.Is4In6():
		return fmt.Errorf("%w: addresses %s and %s are not of one family", ErrFrame, f.Src, f.Dst)
	case len(f.VLANs) > 2:
		return fmt.Errorf("%w: %d VLAN tags, at most 2", ErrFrame, len(f.VLANs))
	case f.Fragment != nil && f.Fragment.Offset%8 != 0:
		return fmt.Errorf("%w: fragment offset %d is not a multiple of 8", ErrFrame, f.Fragment.Offset)
	case len(f.Payload) > 65000:
		return fmt.Errorf("%w: payload of %d bytes, at most 65000", ErrFrame, len(f.Payload))
	}
	for _, v := range f.VLANs {
		if v.ID > 0xfff || v.Priority > 7 {
			return fmt.Errorf("%w: VLAN %d priority %d, at most 4095 and 7", ErrFrame, v.ID, v.Priority)
		}
	}
	switch f.protocol() {
	case ProtocolUDP, ProtocolTCP, ProtocolICMP, ProtocolICMPv6:
		return nil
	}
	return fmt.Errorf("%w: protocol %d is not UDP, TCP or ICMP", ErrFrame, f.Protocol)
}

func (f Frame) protocol() uint8 {
	switch f.Protocol {
	case 0:
		return ProtocolUDP
	case ProtocolICMP, ProtocolICMPv6:
		if f.Src.Is4() {
			return ProtocolICMP
		}
		return ProtocolICMPv6
	}
	return f.Protocol
}

func (f Frame) appendEthernet(b []byte) []byte {
	var macs [12]byte
	copy(macs[:6], f.DstMAC)
	copy(macs[6:], f.SrcMAC)
	b = append(b, macs[:]...)
	for _, v := range f.VLANs {
		tpid := v.TPID
		if tpid == 0 {
			tpid = TPIDCustomer
		}
		b = binary.BigEndian.AppendUint16(b, tpid)
		b = binary.BigEndian.AppendUint16(b, uint16(v.Priority)<<13|v.ID)
	}
	if f.Src.Is4() {
		return binary.BigEndian.AppendUint16(b, etherTypeIPv4)
	}
	return binary.BigEndian.AppendUint16(b, etherTypeIPv6)
}

func (f Frame) ttl() uint8 {
	if f.TTL == 0 {
		return 64
	}
	return f.TTL
}

func (f Frame) appendIP(b []byte) []byte {
	if f.Src.Is4() {
		h := [20]byte{0: 0x45, 8: f.ttl(), 9: f.protocol()}
		if p := f.Fragment; p != nil {
			binary.BigEndian.PutUint16(h[4:], uint16(p.ID))
			binary.BigEndian.PutUint16(h[6:], p.Offset/8|boolBit(p.More, 13))
		}
		copy(h[12:], f.Src.AsSlice())
		copy(h[16:], f.Dst.AsSlice())
		return append(b, h[:]...)
	}
	h := [40]byte{0: 0x60, 6: f.protocol(), 7: f.ttl()}
	src, dst := f.Src.As16(), f.Dst.As16()
	copy(h[8:], src[:])
	copy(h[24:], dst[:])
	p := f.Fragment
	if p == nil {
		return append(b, h[:]...)
	}
	const fragmentHeader = 44
	h[6] = fragmentHeader
	b = append(b, h[:]...)
	b = append(b, f.protocol(), 0)
	b = binary.BigEndian.AppendUint16(b, p.Offset|boolBit(p.More, 0))
	return binary.BigEndian.AppendUint32(b, p.ID)
}

func (f Frame) appendL4(b []byte) []byte {
	if f.Fragment != nil && f.Fragment.Offset > 0 {
		return b
	}
	if p := f.protocol(); p == ProtocolICMP || p == ProtocolICMPv6 {
		echo := byte(8)
		if p == ProtocolICMPv6 {
			echo = 128
		}
		b = append(b, echo, 0, 0, 0)
	}
	b = binary.BigEndian.AppendUint16(b, f.SrcPort)
	b = binary.BigEndian.AppendUint16(b, f.DstPort)
	switch f.protocol() {
	case ProtocolUDP:
		b = binary.BigEndian.AppendUint16(b, uint16(8+len(f.Payload)))
		return append(b, 0, 0)
	case ProtocolTCP:
		flags := f.TCPFlags
		if flags == 0 {
			flags = TCPSyn
		}
		h := [16]byte{8: 5 << 4, 9: flags, 10: 0xff, 11: 0xff} // after the ports: seq, ack, offset, flags, window
		return append(b, h[:]...)
	}
	return b
}

// finish fills in what depends on the rest. A first fragment's checksum covers this frame only, as the rest of the
// datagram is unknown.
func (f Frame) finish(b []byte, ip, l4 int) {
	if f.Src.Is4() {
		binary.BigEndian.PutUint16(b[ip+2:], uint16(len(b)-ip))
		binary.BigEndian.PutUint16(b[ip+10:], fold(sum(b[ip:ip+20], 0)))
	} else {
		binary.BigEndian.PutUint16(b[ip+4:], uint16(len(b)-ip-40))
	}
	if f.Fragment != nil && f.Fragment.Offset > 0 {
		return
	}
	s := uint64(0)
	if f.protocol() != ProtocolICMP {
		s = pseudoHeader(f.Src, f.Dst, f.protocol(), len(b)-l4)
	}
	at := l4 + checksumOffset(f.protocol())
	c := fold(sum(b[l4:], s))
	if c == 0 && f.protocol() == ProtocolUDP {
		c = 0xffff // zero means "none"
	}
	binary.BigEndian.PutUint16(b[at:], c)
}

func checksumOffset(protocol uint8) int {
	switch protocol {
	case ProtocolUDP:
		return 6
	case ProtocolTCP:
		return 16
	}
	return 2
}

func boolBit(set bool, bit uint) uint16 {
	if set {
		return 1 << bit
	}
	return 0
}

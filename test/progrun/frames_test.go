package progrun

import (
	"encoding/binary"
	"net/netip"

	"github.com/weir-limiter/weir/pkg/loader"
)

// frame draws a frame. Most are whole; some are cut short, or have a byte changed.
func (s *scenario) frame() []byte {
	version := pick(s.choices, []int{4, 6})
	b := s.ethernet(version)
	switch {
	case s.hook == loader.HookXDP && s.oneIn(32): // nothing behind it
	case version == 4:
		b = s.ipv4(b)
	default:
		b = s.ipv6(b)
	}
	if s.oneIn(16) {
		b = b[:s.shortest(b)+s.below(len(b)-s.shortest(b)+1)]
	}
	if s.oneIn(16) {
		at := s.below(len(b))
		if s.hook != loader.HookXDP && (at == 12 || at == 13) {
			at = 14 // the same: another EtherType may announce more than there is
		}
		b[min(at, len(b)-1)] ^= byte(1 << s.below(8))
	}
	return b
}

// shortest is how much of a frame has to be left. The kernel runs no TC program on less than the IP header that the
// Ethernet header announces, as nobody would bring it there.
func (s *scenario) shortest(b []byte) int {
	if s.hook == loader.HookXDP {
		return 14
	}
	least := map[uint16]int{0x0800: 34, 0x86dd: 54}[binary.BigEndian.Uint16(b[12:])]
	return min(max(least, 14), len(b))
}

func (s *scenario) ethernet(version int) []byte {
	b := make([]byte, 12, 128)
	if s.oneIn(4) {
		for range 1 + s.below(3) { // the third one is one too many
			b = binary.BigEndian.AppendUint16(b, pick(s.choices, []uint16{0x8100, 0x88a8}))
			b = binary.BigEndian.AppendUint16(b, uint16(s.below(4096)))
		}
	}
	etherType := map[int]uint16{4: 0x0800, 6: 0x86dd}[version]
	if s.oneIn(32) {
		etherType = pick(s.choices, []uint16{0x0806, 0x88cc, 0x0801})
	}
	return binary.BigEndian.AppendUint16(b, etherType)
}

func (s *scenario) ipv4(b []byte) []byte {
	options := 0
	if s.oneIn(8) {
		options = 4 * s.below(11)
	}
	protocol := s.protocol(1)
	start := len(b)
	h := make([]byte, 20+options)
	h[0], h[8], h[9] = 0x40|byte(5+options/4), 64, protocol
	if s.oneIn(8) {
		binary.BigEndian.PutUint16(h[6:], pick(s.choices, []uint16{0x2000, 0x2001, 0x0001, 0x1fff, 0x4000, 0x8000}))
	}
	remote, local := h[12:], h[16:]
	if s.outgoing() {
		remote, local = local, remote
	}
	copy(local[:4], []byte{203, 0, 113, 1})
	copy(remote[:4], s.source(sources4).AsSlice())
	b = s.transport(append(b, h...), protocol)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

func (s *scenario) ipv6(b []byte) []byte {
	start := len(b)
	h := make([]byte, 40)
	h[0], h[7] = 0x60, pick(s.choices, []byte{64, 64, 255})
	remote, local := h[8:24], h[24:]
	if s.outgoing() {
		remote, local = local, remote
	}
	local[0] = 0x20
	copy(remote, s.source(sources6).AsSlice())
	b = append(b, h...)
	next := start + 6 // where the number of the next header goes
	if s.oneIn(4) {
		for range 1 + s.below(maxExtensions+2) {
			b, next = s.extension(b, next)
		}
	}
	b[next] = s.protocol(58)
	b = s.transport(b, b[next])
	binary.BigEndian.PutUint16(b[start+4:], uint16(len(b)-start-40))
	return b
}

// extension adds an extension header, and says where the number of what follows it goes.
func (s *scenario) extension(b []byte, next int) ([]byte, int) {
	kind := pick(s.choices, []byte{0, 43, 44, 51, 60, 135, 139, 140})
	b[next] = kind
	next = len(b)
	switch kind {
	case 44:
		h := make([]byte, 8)
		binary.BigEndian.PutUint16(h[2:], pick(s.choices, []uint16{0, 1, 1, 8, 0xfff8}))
		return append(b, h...), next
	case 51:
		h := make([]byte, 4*(2+s.below(4)))
		h[1] = byte(len(h)/4 - 2)
		return append(b, h...), next
	}
	h := make([]byte, 8*(1+s.below(3)))
	h[1] = byte(len(h)/8 - 1)
	return append(b, h...), next
}

// protocol draws one above IP; icmp is the family's.
func (s *scenario) protocol(icmp byte) byte {
	return pick(s.choices, []byte{17, 17, 17, 6, 6, 6, icmp, icmp, 132, 136, 33, 47, 200, 255})
}

func (s *scenario) transport(b []byte, protocol byte) []byte {
	first, second := uint16(1000), pick(s.choices, ports)
	if s.outgoing() {
		first, second = second, first
	}
	if protocol == 58 {
		first = uint16(pick(s.choices, []byte{128, 133, 135, 137, 138})) << 8
	}
	b = binary.BigEndian.AppendUint16(b, first)
	b = binary.BigEndian.AppendUint16(b, second)
	return append(b, make([]byte, pick(s.choices, []int{16, 16, 40, 500, 1450, 3000}))...)
}

// source is mostly one of a few, and now and then nobody's.
func (s *scenario) source(known []netip.Addr) netip.Addr {
	a := known[min(s.below(len(known)), s.below(len(known)))] // the first ones more often
	if !s.oneIn(16) {
		return a
	}
	if a.Is4() {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(s.word()))))
	}
	// Global unicast: an IPv4 address that is mapped into IPv6 is nobody's on a wire.
	b := binary.BigEndian.AppendUint64(nil, 0x2000_0000_0000_0000|s.word()>>3)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, s.word())))
}

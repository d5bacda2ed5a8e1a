package lab

import (
	"encoding/binary"
	"net/netip"
)

// sum adds b to a running Internet checksum (RFC 1071). 64 bits hold the carries of any frame.
func sum(b []byte, s uint64) uint64 {
	for len(b) >= 4 {
		s += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// fold ends a checksum: the carries added back, and the complement.
func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func pseudoHeader(src, dst netip.Addr, protocol uint8, length int) uint64 {
	s := sum(src.AsSlice(), uint64(protocol)+uint64(length))
	return sum(dst.AsSlice(), s)
}

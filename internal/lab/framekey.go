package lab

import (
	"encoding/binary"
	"net/netip"
)

// maxKeys bounds the memory of a sniffer under a flood of forged sources.
const maxKeys = 1 << 16

// FrameKey is what a sniffer tells frames apart by.
type FrameKey struct {
	Source       netip.Addr // the zero Addr if the frame is not IP
	Outer, Inner uint16     // VLAN IDs, 0 without a tag
}

// parseFrame reads the key of a frame whose outer tag the kernel may have taken out already.
func parseFrame(b []byte, tag uint16, tagged bool) FrameKey {
	var ids []uint16
	if tagged {
		ids = append(ids, tag&0xfff)
	}
	at := 12
	for len(b) >= at+4 && isTPID(binary.BigEndian.Uint16(b[at:])) {
		ids = append(ids, binary.BigEndian.Uint16(b[at+2:])&0xfff)
		at += 4
	}
	var key FrameKey
	if len(ids) > 0 {
		key.Outer = ids[0]
	}
	if len(ids) > 1 {
		key.Inner = ids[1]
	}
	if len(b) < at+2 {
		return key
	}
	switch ip := b[at+2:]; binary.BigEndian.Uint16(b[at:]) {
	case etherTypeIPv4:
		if len(ip) >= 20 {
			key.Source = netip.AddrFrom4([4]byte(ip[12:16]))
		}
	case etherTypeIPv6:
		if len(ip) >= 40 {
			key.Source = netip.AddrFrom16([16]byte(ip[8:24]))
		}
	}
	return key
}

func isTPID(v uint16) bool { return v == TPIDCustomer || v == TPIDService }

package lab

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
)

var (
	srcMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	dstMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	v4Src  = netip.MustParseAddr("192.0.2.1")
	v4Dst  = netip.MustParseAddr("192.0.2.2")
	v6Src  = netip.MustParseAddr("2001:db8::1")
	v6Dst  = netip.MustParseAddr("2001:db8::2")
)

func TestFrameBytes(t *testing.T) {
	const ethernet = "020000000002 020000000001 "
	for _, c := range []struct {
		name  string
		frame Frame
		want  string // checksums from another implementation
	}{
		{
			"udp4", Frame{Src: v4Src, Dst: v4Dst, SrcPort: 1, DstPort: 53, Payload: []byte("abc")},
			"0800 4500001f00000000 4011f6ca c0000201c0000202 0001 0035 000b b73b 616263",
		},
		{
			"udp6", Frame{Src: v6Src, Dst: v6Dst, SrcPort: 1, DstPort: 53, Payload: []byte("abc")},
			"86dd 60000000000b1140 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 0035 000b dfca 616263",
		},
		{
			"vlan", Frame{VLANs: []VLAN{{ID: 7, Priority: 5}}, Src: v4Src, Dst: v4Dst, SrcPort: 1, DstPort: 53, Payload: []byte("abc")},
			"8100a007 0800 4500001f00000000 4011f6ca c0000201c0000202 0001 0035 000b b73b 616263",
		},
		{
			"qinq", Frame{VLANs: []VLAN{{TPID: TPIDService, ID: 100}, {ID: 7}}, Src: v4Src, Dst: v4Dst, SrcPort: 1, DstPort: 53, Payload: []byte("abc")},
			"88a80064 81000007 0800 4500001f00000000 4011f6ca c0000201c0000202 0001 0035 000b b73b 616263",
		},
		{
			"later fragment", Frame{Src: v4Src, Dst: v4Dst, TTL: 1, Fragment: &Fragment{ID: 9, Offset: 16}, Payload: []byte("abcd")},
			"0800 4500001800090002 0111 35c7 c0000201c0000202 61626364",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.frame.SrcMAC, c.frame.DstMAC = srcMAC, dstMAC
			got, err := c.frame.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(ethernet+c.want, " ", ""); hex.EncodeToString(got) != want {
				t.Errorf("got  %x\nwant %s", got, want)
			}
		})
	}
}

// A receiver adds up a packet with its checksum and the pseudo header, and gets zero.
func TestFrameChecksums(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, protocol := range []uint8{ProtocolUDP, ProtocolTCP, ProtocolICMP} {
		for _, f := range []Frame{{Src: v4Src, Dst: v4Dst}, {Src: v6Src, Dst: v6Dst}} {
			for size := range 300 {
				f.Protocol, f.SrcPort, f.DstPort, f.Payload = protocol, uint16(random.Uint32()), 80, make([]byte, size)
				for i := range f.Payload {
					f.Payload[i] = byte(random.Uint32())
				}
				b, err := f.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				if problem := verifyChecksums(b); problem != "" {
					t.Fatalf("%+v: %s", f, problem)
				}
			}
		}
	}
}

func TestFrameErrors(t *testing.T) {
	for name, f := range map[string]Frame{
		"no addresses":  {},
		"two families":  {Src: v4Src, Dst: v6Dst},
		"three tags":    {Src: v4Src, Dst: v4Dst, VLANs: make([]VLAN, 3)},
		"tag too large": {Src: v4Src, Dst: v4Dst, VLANs: []VLAN{{ID: 4096}}},
		"odd offset":    {Src: v4Src, Dst: v4Dst, Fragment: &Fragment{Offset: 3}},
		"sctp":          {Src: v4Src, Dst: v4Dst, Protocol: 132},
		"too long":      {Src: v4Src, Dst: v4Dst, Payload: make([]byte, 66000)},
	} {
		if _, err := f.Bytes(); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v, want ErrFrame", name, err)
		}
	}
}

func TestForgedFrames(t *testing.T) {
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(v4Dst, 9), netip.AddrPortFrom(v6Dst, 9)} {
		h := &Host{MAC: srcMAC, NextHop: dstMAC, IPv4: v4Src, IPv6: v6Src}
		g, err := newForger(h.Frame(to), randomSources(1, to.Addr().Is4()))
		if err != nil {
			t.Fatal(err)
		}
		buf, want := make([]byte, 2048), randomSources(1, to.Addr().Is4())
		for range 10_000 {
			b := g.next(buf)
			if problem := verifyChecksums(b); problem != "" {
				t.Fatalf("%x: %s", b, problem)
			}
			source := want()
			if got := parseFrame(b, 0, false).Source; got != source {
				t.Fatalf("source %s, want %s", got, source)
			}
			if source.IsLoopback() || source.IsMulticast() || !source.IsGlobalUnicast() || source.Is6() && labNet6.Contains(source) {
				t.Fatalf("%s is no source to forge", source)
			}
		}
	}
}

// verifyChecksums returns what is wrong with an untagged frame without extension headers.
func verifyChecksums(b []byte) string {
	ip, l4, protocol := b[14:], b[34:], uint8(0)
	var src, dst netip.Addr
	if binary.BigEndian.Uint16(b[12:]) == etherTypeIPv4 {
		if fold(sum(ip[:20], 0)) != 0 {
			return "IP checksum is wrong"
		}
		src, dst, protocol = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), ip[9]
	} else {
		src, dst, protocol, l4 = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), ip[6], b[54:]
	}
	var pseudo uint64
	if protocol != ProtocolICMP {
		pseudo = pseudoHeader(src, dst, protocol, len(l4))
	}
	if fold(sum(l4, pseudo)) != 0 {
		return "layer 4 checksum is wrong"
	}
	return ""
}

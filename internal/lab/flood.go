package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// Flood sends UDP datagrams with forged sources, each drawn from all unicast addresses outside the lab's networks.
type Flood struct {
	Host    *Host
	Target  netip.AddrPort // its family decides the family
	Payload int            // bytes, 0 to 1400
	Seed    uint64         // the same seed forges the same sources in the same order
	// Sources is how many different addresses there are, used in turn; 0 draws a new one for every frame.
	Sources int
	Load    Load

	injector Injector
}

// Sent is how many frames the kernel took.
func (f *Flood) Sent() uint64 { return f.injector.Sent() }

// Failed is how many frames found the next queue full.
func (f *Flood) Failed() uint64 { return f.injector.Failed() }

// Run sends until the load is complete or ctx is done. It may be called once.
func (f *Flood) Run(ctx context.Context) error {
	frame := f.Host.Frame(f.Target)
	frame.Payload = make([]byte, f.Payload)
	forger, err := newForger(frame, f.sources())
	if err != nil {
		return fmt.Errorf("flood from %s: %w", f.Host.Name, err)
	}
	f.injector.Host, f.injector.Load, f.injector.Next = f.Host, f.Load, forger.next
	return f.injector.Run(ctx)
}

// sources is the sequence of forged addresses.
func (f *Flood) sources() func() netip.Addr {
	draw := randomSources(f.Seed, f.Target.Addr().Is4())
	if f.Sources <= 0 {
		return draw
	}
	all := make([]netip.Addr, f.Sources)
	for i := range all {
		all[i] = draw()
	}
	i := -1
	return func() netip.Addr {
		i = (i + 1) % len(all)
		return all[i]
	}
}

// randomSources draws addresses that a router forwards, and that no host of a lab has: any lab, so that two floods with
// one seed are alike.
func randomSources(seed uint64, v4 bool) func() netip.Addr {
	r := rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))
	if v4 {
		return func() netip.Addr {
			for {
				var b [4]byte
				binary.BigEndian.PutUint32(b[:], r.Uint32())
				if a := netip.AddrFrom4(b); forgeable4(a) {
					return a
				}
			}
		}
	}
	return func() netip.Addr {
		for {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:8], 0x2000_0000_0000_0000|r.Uint64()>>3) // 2000::/3, global unicast
			binary.BigEndian.PutUint64(b[8:], r.Uint64())
			if a := netip.AddrFrom16(b); !labNet6.Contains(a) {
				return a
			}
		}
	}
}

// forgeable4 leaves out what a kernel calls martian, 0/8, 127/8 and everything from 224/3 up, and the lab.
func forgeable4(a netip.Addr) bool {
	first := a.As4()[0]
	return first != 0 && first != 127 && first < 224 &&
		!uplinkNet4.Contains(a) && !clientNet4.Contains(a) && !routerNet4.Contains(a)
}

// forger writes copies of one frame that differ in their source. The checksums of everything else are added up once.
type forger struct {
	template     []byte
	source       func() netip.Addr
	address      int    // offset of the source address
	length       int    // of an address
	ipChecksum   int    // offset, 0 for IPv6, which has none
	udpChecksum  int    // offset
	ipSum, l4Sum uint64 // without the source
}

func newForger(f Frame, source func() netip.Addr) (*forger, error) {
	zero, length, address, ipChecksum, l4 := netip.IPv4Unspecified(), 4, 14+12, 14+10, 14+20
	if f.Dst.Is6() {
		zero, length, address, ipChecksum, l4 = netip.IPv6Unspecified(), 16, 14+8, 0, 14+40
	}
	f.Src = zero
	b, err := f.Bytes()
	if err != nil {
		return nil, err
	}
	g := &forger{template: b, source: source, address: address, length: length, ipChecksum: ipChecksum, udpChecksum: l4 + 6}
	if ipChecksum > 0 {
		g.ipSum = uint64(^binary.BigEndian.Uint16(b[ipChecksum:]))
	}
	g.l4Sum = uint64(^binary.BigEndian.Uint16(b[g.udpChecksum:]))
	return g, nil
}

// next is a [FrameFunc].
func (g *forger) next(buf []byte) []byte {
	b := buf[:copy(buf, g.template)]
	source := g.source()
	if g.length == 4 {
		a := source.As4()
		copy(b[g.address:], a[:])
	} else {
		a := source.As16()
		copy(b[g.address:], a[:])
	}
	s := sum(b[g.address:g.address+g.length], 0)
	if g.ipChecksum > 0 {
		binary.BigEndian.PutUint16(b[g.ipChecksum:], fold(g.ipSum+s))
	}
	c := fold(g.l4Sum + s)
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[g.udpChecksum:], c)
	return b
}

package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"sync"
)

// PairSpec describes two hosts on one cable. The zero value is complete.
type PairSpec struct {
	A, B HostSpec
	// Queues is the number of receive and of transmit queues at both ends; 0 is the kernel's choice, one per CPU. Native XDP
	// fails with ENOSPC where the other end has more transmit queues than there are receive queues, hence one number.
	Queues int
	// MTU in bytes, at least 1280; 0 means 1500. Native XDP without fragments fails with ERANGE above about 3500.
	MTU int
	// Offloads keeps the kernel's segmentation and checksum offloads; see the package comment.
	Offloads bool
}

// HostSpec describes one end of a pair. Zero fields have defaults.
type HostSpec struct {
	Name      string       // "a" and "b"
	Interface string       // at most 15 bytes; "eth0"
	IPv4      netip.Prefix // with the host's own address; 192.0.2.1/24 and 192.0.2.2/24
	IPv6      netip.Prefix // 2001:db8::1/64 and 2001:db8::2/64
}

func (s HostSpec) withDefaults(name, v4, v6 string) HostSpec {
	s.Name = cmp.Or(s.Name, name)
	s.Interface = cmp.Or(s.Interface, "eth0")
	if !s.IPv4.IsValid() {
		s.IPv4 = netip.MustParsePrefix(v4)
	}
	if !s.IPv6.IsValid() {
		s.IPv6 = netip.MustParsePrefix(v6)
	}
	return s
}

func (s HostSpec) host(ns *Namespace, end byte) *Host {
	return &Host{
		Name: s.Name, Namespace: ns, Interface: s.Interface,
		MAC: hardwareAddress(0, end), NextHop: hardwareAddress(0, 1-end),
		IPv4: s.IPv4.Addr(), IPv6: s.IPv6.Addr(),
	}
}

func (s HostSpec) port(self, other *Host) port {
	return port{
		ns: self.Namespace, name: self.Interface, mac: self.MAC,
		addresses:  []netip.Prefix{s.IPv4, s.IPv6},
		neighbours: []neighbour{{other.IPv4, other.MAC}, {other.IPv6, other.MAC}},
	}
}

// Pair is two hosts on one cable.
type Pair struct {
	A, B *Host

	mu     sync.Mutex
	estate estate
}

// NewPair builds a pair. On an error, or when ctx ends while it builds, it removes what it built.
func NewPair(ctx context.Context, spec PairSpec) (*Pair, error) {
	a := spec.A.withDefaults("a", "192.0.2.1/24", "2001:db8::1/64")
	b := spec.B.withDefaults("b", "192.0.2.2/24", "2001:db8::2/64")
	p := &Pair{}
	if err := p.build(ctx, spec, a, b); err != nil {
		p.Close()
		return nil, fmt.Errorf("build pair %s, %s: %w", a.Name, b.Name, err)
	}
	return p, nil
}

func (p *Pair) build(ctx context.Context, spec PairSpec, a, b HostSpec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	nsA, err := p.estate.namespace()
	if err != nil {
		return err
	}
	nsB, err := p.estate.namespace()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p.A, p.B = a.host(nsA, 0), b.host(nsB, 1)
	c := cable{queues: spec.Queues, mtu: spec.MTU, offloads: spec.Offloads}
	return p.estate.plug(c, a.port(p.A, p.B), b.port(p.B, p.A))
}

// Close removes the pair. Closing twice is harmless.
func (p *Pair) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.estate.close()
}

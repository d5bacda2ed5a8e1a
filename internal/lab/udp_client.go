package lab

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// UDPClient sends datagrams through a connected socket, as a real application does.
type UDPClient struct {
	Host    *Host
	Target  netip.AddrPort // its family decides the family
	Payload int            // bytes, 0 to 65507; what fits the MTU is one frame
	Load    Load
	Counters
}

// Run sends until the load is complete or ctx is done. A datagram that the kernel refuses, for example because an ICMP
// error came back, counts as failed and is not repeated. It may be called once.
func (c *UDPClient) Run(ctx context.Context) error {
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("udp client %s: send to %s: %w", c.Host.Name, c.Target, err)
	}
	return nil
}

func (c *UDPClient) run(ctx context.Context) error {
	if err := c.Load.Validate(); err != nil {
		return err
	}
	s, err := openUDPSocket(c.Host, netip.AddrPortFrom(c.Host.Address(c.Target.Addr()), 0))
	if err != nil {
		return err
	}
	defer s.close()
	if err := unix.Connect(s.fd, socketAddress(c.Target)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	b, payload := newBatch(), make([]byte, c.Payload)
	for i := range b.messages {
		b.set(i, payload)
	}
	sender := sender{socket: s, batch: b, counters: &c.Counters}
	return sender.run(ctx, c.Load)
}

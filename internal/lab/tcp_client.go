package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// TCPClient is the well-behaved user: it asks an [EchoServer] small questions over a kept connection and measures how long the
// answers take. It asks one at a time, so while it waits for an answer it falls behind its rate, and does not make up for it.
type TCPClient struct {
	Host    *Host
	Target  netip.AddrPort
	Payload int           // bytes of a question; 0 means 64
	Timeout time.Duration // for connecting and for an answer, each; 0 means 250 ms
	// PerConnection is how many exchanges one connection serves; 0 keeps it until an exchange fails.
	PerConnection uint64
	Load          Load // of exchanges

	// Counters: Sent counts the exchanges answered, Failed those that were not.
	Counters
	// Latency of the exchanges answered, including the handshake where the exchange had to connect.
	Latency Latency

	conn net.Conn
	used uint64 // exchanges done on conn
	buf  []byte
}

// Run exchanges until the load is complete or ctx is done. An exchange that fails is counted, never an error. It may be
// called once.
func (c *TCPClient) Run(ctx context.Context) error {
	c.buf = make([]byte, c.payload())
	defer func() {
		if c.conn != nil {
			abort(c.conn)
		}
	}()
	err := c.Load.runPatiently(ctx, func(n int) error {
		for ; n > 0 && ctx.Err() == nil; n-- {
			c.attempt(ctx)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tcp client %s: %w", c.Host.Name, err)
	}
	return nil
}

func (c *TCPClient) payload() int {
	if c.Payload <= 0 {
		return 64
	}
	return c.Payload
}

func (c *TCPClient) timeout() time.Duration {
	if c.Timeout <= 0 {
		return 250 * time.Millisecond
	}
	return c.Timeout
}

func (c *TCPClient) attempt(ctx context.Context) {
	start := time.Now()
	if err := c.exchange(ctx); err != nil {
		if c.conn != nil {
			abort(c.conn)
			c.conn = nil
		}
		if ctx.Err() == nil { // being stopped is no failure
			c.failed.Add(1)
		}
		return
	}
	c.sent.Add(1)
	c.Latency.Observe(time.Since(start))
	if c.used++; c.used == c.PerConnection {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *TCPClient) exchange(ctx context.Context) error {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout())); err != nil {
		return err
	}
	defer unblockWhenDone(ctx, c.conn)()
	if _, err := c.conn.Write(c.buf); err != nil {
		return err
	}
	_, err := io.ReadFull(c.conn, c.buf)
	return err
}

func (c *TCPClient) connect(ctx context.Context) error {
	return c.Host.Do(func() error {
		from := netip.AddrPortFrom(c.Host.Address(c.Target.Addr()), 0)
		dialer := net.Dialer{Timeout: c.timeout(), LocalAddr: net.TCPAddrFromAddrPort(from), KeepAlive: -1}
		dialer.SetMultipathTCP(false)
		conn, err := dialer.DialContext(ctx, "tcp", c.Target.String())
		if err != nil {
			return err
		}
		c.conn, c.used = conn, 0
		return nil
	})
}

package ratesync

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"time"
)

// attempt is how long a connection may take before it is tried anew. The kernel's own second packet comes after a second,
// its third after three: whoever waits for them hears late that a network is back.
const attempt = 500 * time.Millisecond

// dialer connects, for go-redis.
type dialer struct {
	net.Dialer
	secure *tls.Config // nil: plain
}

// dial gives a [failed] connection rather than an error: go-redis's pool would stop dialling after as many errors as it has
// connections, and look but once a second whether it may again. It has retries enough of its own: those who decide.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.connect(ctx, network, addr)
	if err != nil {
		return failed{err}, nil
	}
	return conn, nil
}

func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.reach(ctx, network, addr)
	if err != nil || d.secure == nil {
		return conn, err
	}
	config := d.secure
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			conn.Close()
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// reach tries as long as nobody answers at all.
func (d *dialer) reach(ctx context.Context, network, addr string) (net.Conn, error) {
	for {
		once, cancel := context.WithTimeout(ctx, attempt)
		conn, err := d.DialContext(once, network, addr)
		silent := once.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !silent {
			return conn, err
		}
	}
}

// failed is a connection that there is not: all that is done with it fails as its making did. It is a [syscall.Conn], so
// that the pool finds out before it hands it to anybody.
type failed struct{ err error }

var _ syscall.Conn = failed{}

func (f failed) Read([]byte) (int, error)              { return 0, f.err }
func (f failed) Write([]byte) (int, error)             { return 0, f.err }
func (f failed) Close() error                          { return nil }
func (f failed) LocalAddr() net.Addr                   { return nowhere{} }
func (f failed) RemoteAddr() net.Addr                  { return nowhere{} }
func (f failed) SetDeadline(time.Time) error           { return nil }
func (f failed) SetReadDeadline(time.Time) error       { return nil }
func (f failed) SetWriteDeadline(time.Time) error      { return nil }
func (f failed) SyscallConn() (syscall.RawConn, error) { return nil, f.err }

type nowhere struct{}

func (nowhere) Network() string { return "none" }
func (nowhere) String() string  { return "" }

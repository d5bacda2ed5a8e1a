package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxEchoConnections bounds what a flood of connections can make the echo server hold.
const maxEchoConnections = 1024

// EchoServer sends back what it gets, over TCP on IPv4 and IPv6.
type EchoServer struct {
	host      *Host
	listeners []net.Listener
	accepted  atomic.Uint64
	bytes     atomic.Uint64
}

// NewEchoServer listens on the host; connections wait until Run. The caller must Run or Close it.
func NewEchoServer(h *Host, port uint16) (*EchoServer, error) {
	e := &EchoServer{host: h}
	for _, network := range []string{"tcp4", "tcp6"} {
		err := h.Do(func() error {
			config := net.ListenConfig{KeepAlive: -1}
			config.SetMultipathTCP(false) // plain TCP on the wire
			l, err := config.Listen(context.Background(), network, anyAddress(network, port))
			if err == nil {
				e.listeners = append(e.listeners, l)
			}
			return err
		})
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("echo server on %s: %w", h.Name, err)
		}
	}
	return e, nil
}

// Accepted is how many connections were opened.
func (e *EchoServer) Accepted() uint64 { return e.accepted.Load() }

// Echoed is how many bytes were sent back, in connections that ended.
func (e *EchoServer) Echoed() uint64 { return e.bytes.Load() }

// Run serves until ctx is done, and closes the listeners and every connection.
func (e *EchoServer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { e.Close() })
	defer stop()
	var group, connections errgroup.Group
	connections.SetLimit(maxEchoConnections)
	for _, l := range e.listeners {
		group.Go(func() error {
			defer cancel() // one that fails takes the other with it
			return e.accept(ctx, l, &connections)
		})
	}
	err := group.Wait()
	connections.Wait()
	e.Close()
	if err != nil {
		return fmt.Errorf("echo server on %s: %w", e.host.Name, err)
	}
	return nil
}

// Close closes the listeners of a server that was never Run. Closing twice is harmless.
func (e *EchoServer) Close() error {
	var errs []error
	for _, l := range e.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (e *EchoServer) accept(ctx context.Context, l net.Listener, connections *errgroup.Group) error {
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				abort(conn)
			}
			return nil
		}
		if err != nil {
			return err
		}
		e.accepted.Add(1)
		connections.Go(func() error {
			e.serve(ctx, conn)
			return nil
		})
	}
}

// serve ends when the client closes, or when ctx is done.
func (e *EchoServer) serve(ctx context.Context, conn net.Conn) {
	defer unblockWhenDone(ctx, conn)()
	// Hidden behind plain interfaces, or Copy would splice, through pipes that the runtime keeps open.
	n, err := io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
	e.bytes.Add(uint64(n))
	if err != nil {
		abort(conn)
		return
	}
	conn.Close()
}

// abort closes with a reset. A connection whose other end is unreachable would otherwise go on repeating its last
// segments for minutes, and keep its namespace alive so long.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// unblockWhenDone ends every present and future wait on conn when ctx is done. The caller calls stop before it closes.
func unblockWhenDone(ctx context.Context, conn net.Conn) (stop func()) {
	return afterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

// anyAddress is the wildcard of a network such as "tcp6", with a port.
func anyAddress(network string, port uint16) string {
	host := "0.0.0.0"
	if network == "tcp6" {
		host = "::"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

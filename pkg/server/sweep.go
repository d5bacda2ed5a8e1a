package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// net/http's own timeouts set some five timers for each request. What that costs a server whose requests are as short
// as these, "make bench" prints (section auth: an empty handler with timeouts, and without). A sweep takes two
// stores, and is as good to the second.

// sweepEvery is how often connections are looked at.
const sweepEvery = time.Second

// maxAge is how long a connection may stay in a state.
type maxAge struct {
	first  time.Duration // until the head of its first request is there
	active time.Duration // from then on, or from a later one's head, until it is answered
	idle   time.Duration // between two requests, and until the head of the second is there
}

func (m *maxAge) of(state http.ConnState) time.Duration {
	switch state {
	case http.StateNew:
		return m.first
	case http.StateActive:
		return m.active
	}
	return m.idle
}

// sweep closes connections that stay in a state for too long. It is a listener, of connections that know their
// state.
type sweep struct {
	net.Listener
	maxAge maxAge
	now    atomic.Int64 // nanoseconds since start, as of the last look

	mu    sync.Mutex // of accepting and closing
	conns map[*sweptConn]struct{}
}

func newSweep(l net.Listener, m maxAge) *sweep {
	return &sweep{Listener: l, maxAge: m, conns: map[*sweptConn]struct{}{}}
}

// Accept implements [net.Listener].
func (s *sweep) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &sweptConn{Conn: conn, sweep: s}
	c.enter(http.StateNew)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	return c, nil
}

// changed is a [http.Server.ConnState].
func (s *sweep) changed(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*sweptConn); ok {
		c.enter(state)
	}
}

// run looks at the connections until ctx ends.
func (s *sweep) run(ctx context.Context, every time.Duration) {
	start := time.Now()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.now.Store(int64(now.Sub(start)))
			for _, c := range s.overdue() {
				_ = c.Close() // one that fails was closed by somebody else
			}
		}
	}
}

func (s *sweep) overdue() (all []*sweptConn) {
	now := s.now.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		state := http.ConnState(c.state.Load())
		if time.Duration(now-c.since.Load()) > s.maxAge.of(state) {
			all = append(all, c)
		}
	}
	return all
}

// sweptConn is a connection that knows its state, and since when it is in it.
type sweptConn struct {
	net.Conn
	sweep *sweep
	state atomic.Int32
	since atomic.Int64
}

// enter keeps a new state. The time goes first: an old one with a new state could be overdue.
func (c *sweptConn) enter(state http.ConnState) {
	c.since.Store(c.sweep.now.Load())
	c.state.Store(int32(state))
}

// Close implements [net.Conn].
func (c *sweptConn) Close() error {
	c.sweep.mu.Lock()
	delete(c.sweep.conns, c)
	c.sweep.mu.Unlock()
	return c.Conn.Close()
}

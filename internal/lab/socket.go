package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a non-blocking socket that stays out of the runtime's poller. The poller asks the kernel to be woken for
// everything that happens on a socket, and over a veth that is a wake-up of another thread for every frame sent or
// received, whether anybody waits or not.
type socket struct {
	mu   sync.RWMutex
	fd   int // -1 once closed
	wake int // eventfd that ends a wait
}

// openSocket opens a socket inside the host's namespace.
func openSocket(h *Host, family, kind int) (*socket, error) {
	s := &socket{fd: -1, wake: -1}
	err := h.Do(func() (err error) {
		s.fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", mend(err))
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		unix.Close(s.fd)
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	return s, nil
}

// wait blocks until one of the poll events happens on the socket, or until interrupted.
func (s *socket) wait(events int16) error {
	return poll(-1, unix.PollFd{Fd: int32(s.wake), Events: unix.POLLIN}, unix.PollFd{Fd: int32(s.fd), Events: events})
}

// receive calls read until ctx is done. When read returns 0 it first rests for a tick, and only then, if there is still
// nothing, waits for the socket: the kernel's wake-up of a waiting reader costs the sender more than the frame does.
func (s *socket) receive(ctx context.Context, read func() (int, error)) error {
	defer s.interruptWhenDone(ctx)()
	idle := true
	for ctx.Err() == nil {
		n, err := read()
		switch {
		case err != nil:
			return err
		case n > 0:
			idle = false
		case idle:
			if err := s.wait(unix.POLLIN); err != nil {
				return err
			}
		default:
			idle = true
			if err := poll(tick, unix.PollFd{Fd: int32(s.wake), Events: unix.POLLIN}); err != nil {
				return err
			}
		}
	}
	return nil
}

// poll waits for one of the events, for ever if the timeout is negative.
func poll(timeout time.Duration, fds ...unix.PollFd) error {
	ms := -1
	if timeout >= 0 {
		ms = int(timeout.Milliseconds())
	}
	if _, err := unix.Poll(fds, ms); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	return nil
}

// interruptWhenDone ends every present and future wait once ctx is done. The caller calls stop before it closes.
func (s *socket) interruptWhenDone(ctx context.Context) (stop func()) {
	return afterFunc(ctx, func() {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		unix.Write(s.wake, one[:]) // can only fail if it was written before
	})
}

// use calls fn with the descriptor, which stays open until fn returns, or returns [net.ErrClosed].
func (s *socket) use(fn func(fd int) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	return fn(s.fd)
}

// close may be called twice, but not during a wait.
func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	err := errors.Join(unix.Close(s.fd), unix.Close(s.wake))
	s.fd, s.wake = -1, -1
	return err
}

// afterFunc is context.AfterFunc whose stop also waits for fn, if that was started.
func afterFunc(ctx context.Context, fn func()) (stop func()) {
	finished := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(finished)
		fn()
	})
	return func() {
		if !cancel() {
			<-finished
		}
	}
}

// openPacketSocket opens an AF_PACKET socket on the host's interface; protocol 0 receives nothing. The order is what
// keeps frames of other interfaces out: nothing arrives before bind.
func openPacketSocket(h *Host, protocol uint16, options func(fd int) error) (*socket, error) {
	index, err := h.Index()
	if err != nil {
		return nil, err
	}
	s, err := openSocket(h, unix.AF_PACKET, unix.SOCK_RAW)
	if err != nil {
		return nil, err
	}
	if err := options(s.fd); err != nil {
		s.close()
		return nil, fmt.Errorf("set up packet socket: %w", err)
	}
	address := &unix.SockaddrLinklayer{Ifindex: index, Protocol: networkOrder(protocol)}
	if err := unix.Bind(s.fd, address); err != nil {
		s.close()
		return nil, fmt.Errorf("bind packet socket to %s: %w", h.Interface, err)
	}
	return s, nil
}

// openUDPSocket opens a UDP socket of the address' family, bound to it.
func openUDPSocket(h *Host, local netip.AddrPort) (*socket, error) {
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	s, err := openSocket(h, family, unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_INET6 { // or it would take the port of an IPv4 socket beside it
		err = unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(s.fd, socketAddress(local))
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("bind udp socket to %s: %w", local, err)
	}
	return s, nil
}

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// networkOrder is htons.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

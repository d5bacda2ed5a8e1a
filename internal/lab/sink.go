package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Tally counts what arrived from one source.
type Tally struct {
	Packets uint64
	Bytes   uint64 // of payload
}

type tally struct{ packets, bytes atomic.Uint64 }

func (t *tally) add(bytes uint32) {
	t.packets.Add(1)
	t.bytes.Add(uint64(bytes))
}

func (t *tally) read() Tally { return Tally{t.packets.Load(), t.bytes.Load()} }

// UDPSink receives datagrams over IPv4 and IPv6 and counts them: per source for the sources it was told, together for all
// others, so that a flood of forged sources costs no memory. It never answers.
type UDPSink struct {
	host    *Host
	sockets []*socket
	known   map[netip.Addr]*tally // not written after the start, so read without a lock
	others  tally
	total   atomic.Uint64
	moved   progress
}

// sinkBuffer is the receive buffer asked for each socket, in bytes: far more than arrives before a busy machine runs the
// reader again. It is a bound, not memory taken in advance.
const sinkBuffer = 64 << 20

// NewUDPSink opens the sockets on the host; datagrams wait in them until Run. known are the sources that
// get a counter each. The caller must Run or Close it.
func NewUDPSink(h *Host, port uint16, known ...netip.Addr) (*UDPSink, error) {
	s := &UDPSink{host: h, known: make(map[netip.Addr]*tally, len(known))}
	for _, a := range known {
		s.known[a] = &tally{}
	}
	for _, wildcard := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if err := s.listen(netip.AddrPortFrom(wildcard, port)); err != nil {
			s.Close()
			return nil, fmt.Errorf("udp sink on %s: %w", h.Name, err)
		}
	}
	return s, nil
}

func (s *UDPSink) listen(local netip.AddrPort) error {
	socket, err := openUDPSocket(s.host, local)
	if err != nil {
		return err
	}
	s.sockets = append(s.sockets, socket)
	if err := unix.SetsockoptInt(socket.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, sinkBuffer); err != nil {
		return fmt.Errorf("enlarge receive buffer: %w", mend(err))
	}
	return nil
}

// Run receives until ctx is done, and closes the sockets.
func (s *UDPSink) Run(ctx context.Context) error {
	defer s.Close()
	var group errgroup.Group
	for _, socket := range s.sockets {
		group.Go(func() error { return s.receive(ctx, socket) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("udp sink on %s: %w", s.host.Name, err)
	}
	return nil
}

// Close closes the sockets of a sink that was never Run. Closing twice is harmless.
func (s *UDPSink) Close() error {
	var errs []error
	for _, socket := range s.sockets {
		errs = append(errs, socket.close())
	}
	return errors.Join(errs...)
}

func (s *UDPSink) receive(ctx context.Context, socket *socket) error {
	b, names, payload := newBatch(), make([]unix.RawSockaddrInet6, batchSize), make([]byte, 1)
	for i := range b.messages {
		b.set(i, payload) // the content is of no interest: one byte for all, the length is reported anyhow
		b.messages[i].Name = (*byte)(unsafe.Pointer(&names[i]))
	}
	return socket.receive(ctx, func() (int, error) {
		for i := range b.messages {
			b.messages[i].Namelen = unix.SizeofSockaddrInet6
		}
		n, err := b.receive(socket.fd)
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("receive: %w", err)
		}
		s.count(b.messages[:n], names)
		return n, nil
	})
}

func (s *UDPSink) count(messages []message, names []unix.RawSockaddrInet6) {
	if len(messages) == 0 {
		return
	}
	for i := range messages {
		t := s.known[sourceOf(&names[i])]
		if t == nil {
			t = &s.others
		}
		t.add(messages[i].n)
	}
	s.total.Add(uint64(len(messages)))
	s.moved.notify()
}

func sourceOf(name *unix.RawSockaddrInet6) netip.Addr {
	if name.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	}
	return netip.AddrFrom16(name.Addr)
}

// From counts what came from a known source; for others it is zero.
func (s *UDPSink) From(source netip.Addr) Tally {
	if t := s.known[source]; t != nil {
		return t.read()
	}
	return Tally{}
}

// Others counts what came from all sources that are not known.
func (s *UDPSink) Others() Tally { return s.others.read() }

// Total is how many datagrams arrived.
func (s *UDPSink) Total() uint64 { return s.total.Load() }

// Await waits until at least n datagrams arrived, and otherwise says how many did.
func (s *UDPSink) Await(ctx context.Context, n uint64) error {
	err := s.moved.await(ctx, func() bool { return s.Total() >= n })
	if err != nil {
		return fmt.Errorf("udp sink on %s: %d of %d datagrams arrived: %w", s.host.Name, s.Total(), n, err)
	}
	return nil
}

// Overflowed is how many datagrams reached a socket and found its buffer full. A test that counts requires zero. It is an
// error after Run.
func (s *UDPSink) Overflowed() (uint64, error) {
	var all uint64
	for _, socket := range s.sockets {
		err := socket.use(func(fd int) error {
			n, err := socketDrops(fd)
			all += uint64(n)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("udp sink on %s: read drops: %w", s.host.Name, err)
		}
	}
	return all, nil
}

// socketDrops reads sk_drops, the last of the nine numbers of SO_MEMINFO (SK_MEMINFO_DROPS of linux/sock_diag.h).
func socketDrops(fd int) (uint32, error) {
	var info [9 * 4]byte
	length := uint32(len(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, errno
	}
	return binary.NativeEndian.Uint32(info[8*4:]), nil
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sniffer counts the frames that an interface receives, per source address and VLAN, and knows whether it missed any.
//
// It stands behind XDP, native or generic, and before TC ingress: what an XDP program drops it does not see, what a TC
// program drops it does. To test TC egress, put it on the other end of the cable.
type Sniffer struct {
	host   *Host
	socket *socket
	ring   []byte
	slot   int // the next to be filled

	mu     sync.Mutex
	counts map[FrameKey]uint64
	missed uint64 // counted by the kernel up to the last read, which resets its counter
	total  atomic.Uint64
	moved  progress
}

// The ring has a slot for each of 65 536 frames and keeps what the headers need of each, 16 MiB in all.
const (
	slotSize  = 256
	slotCount = 1 << 16
	blockSize = 1 << 16
)

// NewSniffer starts to collect on the host's interface; Run counts. The caller must Run or Close it.
func NewSniffer(h *Host) (*Sniffer, error) {
	s := &Sniffer{host: h, counts: make(map[FrameKey]uint64)}
	socket, err := openPacketSocket(h, unix.ETH_P_ALL, s.mapRing)
	if err != nil {
		s.unmap()
		return nil, fmt.Errorf("sniffer on %s: %w", h.Name, err)
	}
	s.socket = socket
	return s, nil
}

// mapRing sets up a TPACKET_V2 ring: it is the version that delivers each frame at once and with its VLAN tag.
func (s *Sniffer) mapRing(fd int) error {
	for _, option := range [][2]int{{unix.PACKET_VERSION, unix.TPACKET_V2}, {unix.PACKET_IGNORE_OUTGOING, 1}} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option[0], option[1]); err != nil {
			return err
		}
	}
	request := &unix.TpacketReq{
		Block_size: blockSize, Block_nr: slotSize * slotCount / blockSize,
		Frame_size: slotSize, Frame_nr: slotCount,
	}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, request); err != nil {
		return fmt.Errorf("create ring: %w", err)
	}
	ring, err := unix.Mmap(fd, 0, slotSize*slotCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map ring: %w", err)
	}
	s.ring = ring
	return nil
}

// Run counts until ctx is done, counts what is in the ring by then, and closes the sniffer. The counts remain readable.
func (s *Sniffer) Run(ctx context.Context) error {
	defer s.Close()
	if err := s.socket.receive(ctx, func() (int, error) { return s.drain(), nil }); err != nil {
		return fmt.Errorf("sniffer on %s: %w", s.host.Name, err)
	}
	s.drain()
	_, err := s.Missed()
	return err
}

// Close ends a sniffer that was never Run. Closing twice is harmless.
func (s *Sniffer) Close() error {
	s.unmap()
	return s.socket.close()
}

func (s *Sniffer) unmap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring != nil {
		unix.Munmap(s.ring)
		s.ring = nil
	}
}

// drain counts the frames that are in the ring, at most once around.
func (s *Sniffer) drain() (n int) {
	s.mu.Lock()
	for n < slotCount && s.take() {
		n++
	}
	s.mu.Unlock()
	if n > 0 {
		s.total.Add(uint64(n))
		s.moved.notify()
	}
	return n
}

// take counts the frame in the next slot, if there is one, and gives the slot back. The status word is the kernel's and
// ours in turn, hence atomic.
func (s *Sniffer) take() bool {
	slot := s.ring[s.slot*slotSize : (s.slot+1)*slotSize]
	header := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
	status := atomic.LoadUint32(&header.Status)
	if status&unix.TP_STATUS_USER == 0 {
		return false
	}
	var tag uint16
	if status&unix.TP_STATUS_VLAN_VALID != 0 {
		tag = header.Vlan_tci // the kernel has taken the outer tag out of the frame
	}
	end := min(int(header.Mac)+int(header.Snaplen), slotSize)
	key := parseFrame(slot[header.Mac:end], tag, status&unix.TP_STATUS_VLAN_VALID != 0)
	if _, ok := s.counts[key]; !ok && len(s.counts) >= maxKeys {
		key = FrameKey{}
	}
	s.counts[key]++
	atomic.StoreUint32(&header.Status, unix.TP_STATUS_KERNEL)
	s.slot = (s.slot + 1) % slotCount
	return true
}

// Total is how many frames were counted.
func (s *Sniffer) Total() uint64 { return s.total.Load() }

// Counts is a copy of the counters. Beyond 65 536 keys the rest is counted under the zero key.
func (s *Sniffer) Counts() map[FrameKey]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// Missed is how many frames found the ring full. A test that counts requires zero. After Run it is the final number.
func (s *Sniffer) Missed() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.socket.use(func(fd int) error {
		stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			s.missed += uint64(stats.Drops)
		}
		return err
	})
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return s.missed, fmt.Errorf("sniffer on %s: read statistics: %w", s.host.Name, err)
	}
	return s.missed, nil
}

// Await waits until at least n frames were counted, and otherwise says how many were.
func (s *Sniffer) Await(ctx context.Context, n uint64) error {
	err := s.moved.await(ctx, func() bool { return s.Total() >= n })
	if err != nil {
		return fmt.Errorf("sniffer on %s: %d of %d frames seen: %w", s.host.Name, s.Total(), n, err)
	}
	return nil
}

package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	hotPin        = "hot"
	hotControlPin = "hot_control"

	// HotNever is a shift with which no source is announced.
	HotNever = 32
)

var (
	// ErrNoHot says that what is attached is of a version of weir that announces no sources.
	ErrNoHot = errors.New("what is attached announces no sources")
	// ErrHot says that a record is not an announcement as this version of weir knows them.
	ErrHot = errors.New("not an announcement")
)

// Hot announces a source whose bucket has given so much that the other nodes are to be told.
type Hot struct {
	Key                // of the packet that was counted, its port if a policy asks for ports: see [LoadedPolicy.Canonical]
	Time time.Duration // when it was, by the monotonic clock: see [Monotonic]
	// Used is how many tokens the bucket has given since its entry was claimed, modulo 2^32: as [Buckets.Use].
	Used uint32
	// Slot is the policy's counter slot. Policies of two interfaces may have the same: see [LoadedPolicy.Announced].
	Slot uint8
	hash uint64 // secret, as who sees those of many addresses can learn the key
}

// Announced tells whether a source was announced for this policy.
func (p *LoadedPolicy) Announced(h Hot) bool { return p.Slot == h.Slot && p.hash(h.Key) == h.hash }

// HotSources are the announcements of a state directory's programs. A program announces a source of a policy with
// consistency reconciled when what its bucket has given passes a multiple of 2^shift tokens. While nobody
// listens no packet pays for it.
type HotSources struct {
	listener
	shift *[MaxPolicies / 8]atomic.Uint64 // in the page; eight slots in a word
}

// OpenHot makes this process the listener, until Close. It fails with [ErrListening] if another one
// is, [ErrNothingAttached], or [ErrNoHot]. runDir is where the lock is, and is made if need be. No slot has a shift
// yet: see SetShift.
func (d *StateDir) OpenHot(runDir string) (*HotSources, error) {
	h := &HotSources{}
	err := h.open(d, listened{
		what: "hot sources", ring: hotPin, page: hotControlPin, pageSize: unsafe.Sizeof(xdpHotPage{}),
		lock: "hot.lock", missing: ErrNoHot,
		wait: 10 * time.Millisecond, // the interval between two reconciliations is ten times as long
	}, runDir)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	page := (*xdpHotPage)(unsafe.Pointer(&h.page[0]))
	h.shift = (*[MaxPolicies / 8]atomic.Uint64)(unsafe.Pointer(&page.Shift))
	for slot := range uint8(MaxPolicies) {
		h.SetShift(slot, HotNever) // the listener before this one may have been killed
	}
	return h, nil
}

// SetShift has the sources of the policies that count in a slot announced whenever their bucket has given another
// 2^shift tokens; [HotNever] and more: not at all. Programs heed it at once. Where policies of several interfaces
// share a slot, the smallest of their shifts is the right one. bucket.Limit.ShareShift computes them. Slots from
// [MaxPolicies] on are nobody's. It is not safe for concurrent use.
func (h *HotSources) SetShift(slot, shift uint8) {
	if slot >= MaxPolicies {
		return
	}
	word := &h.shift[slot/8]
	var slots [8]uint8
	binary.NativeEndian.PutUint64(slots[:], word.Load())
	slots[slot%8] = shift
	word.Store(binary.NativeEndian.Uint64(slots[:]))
}

// Run lets the programs announce sources, and calls handle with each, until ctx ends; then they stop. It
// returns nil unless the ring buffer can't be read. It may be called again, but not twice at once.
// Counters.HotLost has the announcements that found no room.
func (h *HotSources) Run(ctx context.Context, handle func(Hot)) error {
	return h.run(ctx, func(record []byte, started time.Duration) error {
		hot, err := decodeHot(record)
		if err == nil && hot.Time >= started { // else of the listener before this one
			handle(hot)
		}
		return err
	})
}

// hotSize is sizeof(struct hot).
const hotSize = 48

// decodeHot reads a record of the ring buffer: struct hot of types.h, every field in host order.
func decodeHot(b []byte) (Hot, error) {
	if len(b) != hotSize {
		return Hot{}, fmt.Errorf("%w: %d bytes, want %d", ErrHot, len(b), hotSize)
	}
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	h := Hot{
		Key:  Key{Protocol: b[39], Port: binary.NativeEndian.Uint16(b[36:])},
		Time: time.Duration(u64(16)), hash: u64(24), Used: binary.NativeEndian.Uint32(b[32:]), Slot: b[40],
	}
	if h.Slot >= MaxPolicies || h.Time < 0 || [7]byte(b[41:]) != [7]byte{} {
		return Hot{}, fmt.Errorf("%w: slot %d at %d, padded with %x", ErrHot, h.Slot, h.Time, b[41:])
	}
	source, ok := recordedSource(b[38], u64(0), u64(8))
	if !ok {
		return Hot{}, fmt.Errorf("%w: no source of version %d", ErrHot, b[38])
	}
	h.Source = source
	return h, nil
}

// recordedSource is a source as struct packet has it.
func recordedSource(version uint8, high, low uint64) (_ netip.Addr, ok bool) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], high)
	binary.BigEndian.PutUint64(b[8:], low)
	switch {
	case version == 4 && high == 0 && low>>32 == 0:
		return netip.AddrFrom4([4]byte(b[12:])), true
	case version == 6:
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
}

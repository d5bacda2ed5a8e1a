package loader

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// Control is what user space tells all programs.
type Control struct {
	// Listening is for how long the programs emit events yet, unless the listener renews it; 0: nobody
	// listens.
	Listening time.Duration
	// Bans4 and Bans6 are how many entries the maps of the bans have, those that are over included.
	Bans4, Bans6 uint32
}

// Control reads the control page.
func (d *StateDir) Control() (Control, error) {
	m, err := d.openMap("control")
	if err != nil {
		return Control{}, err
	}
	defer m.Close()
	var page xdpControlPage
	if err := m.Lookup(uint32(0), &page); err != nil {
		return Control{}, fmt.Errorf("read the control page: %w", explain(err))
	}
	c := Control{Bans4: page.Bans[0], Bans6: page.Bans[1]}
	if page.EventsUntil != 0 {
		c.Listening = max(0, time.Duration(page.EventsUntil)-sinceBoot())
	}
	return c, nil
}

// HotControl is what user space tells all programs of the sources that they are to announce.
type HotControl struct {
	// Listening is for how long the programs announce sources yet, unless the listener renews it; 0: nobody listens.
	Listening time.Duration
	// Shift says, by counter slot, that a source is announced each 2^shift tokens; from [HotNever] on it is not.
	Shift [MaxPolicies]uint8
}

// HotControl reads the page of the announcements. It fails with [ErrNoHot] if there is none.
func (d *StateDir) HotControl() (c HotControl, err error) {
	m, err := d.openWritten(hotControlPin, ErrNoHot)
	if err != nil {
		return c, err
	}
	defer m.Close()
	var page xdpHotPage
	if err := m.Lookup(uint32(0), &page); err != nil {
		return c, fmt.Errorf("read the page of the announcements: %w", explain(err))
	}
	if page.Until != 0 {
		c.Listening = max(0, time.Duration(page.Until)-sinceBoot())
	}
	c.Shift = page.Shift
	return c, nil
}

// RingPosition is how far a ring buffer was written and read.
type RingPosition struct {
	Size    int    // bytes
	Written uint64 // bytes since it was made
	Read    uint64
}

// EventsPosition is that of the events.
func (d *StateDir) EventsPosition() (RingPosition, error) {
	return d.ringPosition("events", ErrNoEvents)
}

// HotPosition is that of the announcements.
func (d *StateDir) HotPosition() (RingPosition, error) { return d.ringPosition(hotPin, ErrNoHot) }

// ringPosition reads it from the ring buffer's own pages: the reader's is the first, the writers' the second.
func (d *StateDir) ringPosition(pin string, missing error) (p RingPosition, err error) {
	m, err := d.openWritten(pin, missing) // to read it alone does not let it be mapped shared
	if err != nil {
		return p, err
	}
	defer m.Close()
	page := os.Getpagesize()
	memory, err := unix.Mmap(m.FD(), 0, 2*page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return p, fmt.Errorf("map the ring buffer %s: %w", pin, explain(err))
	}
	position := func(at int) uint64 { return atomic.LoadUint64((*uint64)(unsafe.Pointer(&memory[at]))) }
	p = RingPosition{Size: int(m.MaxEntries()), Read: position(0), Written: position(page)}
	return p, unix.Munmap(memory)
}

// Slots lists the slots that are in use, by CPU. Which buckets they are of stays untold: who sees the hashes
// of addresses can learn the key that they are made with.
func (b *Buckets) Slots() []bucket.SlotState { return slices.Collect(b.cpus.All()) }

// BanCounts are how many bans are in force, by address family.
type BanCounts struct{ IPv4, IPv6 int }

// CountBans counts the bans that are in force. It reads all of them, so not for every packet. There are
// none while nothing is attached.
func (d *StateDir) CountBans() (c BanCounts, err error) {
	all, err := d.Bans()
	if errors.Is(err, ErrNothingAttached) {
		return c, nil
	}
	for _, b := range all {
		if b.Prefix.Addr().Is4() {
			c.IPv4++
		} else {
			c.IPv6++
		}
	}
	return c, err
}

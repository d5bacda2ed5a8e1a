package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The pins of the bans, in the state directory, for all programs.
const (
	bans4Pin   = "bans4"
	bans6Pin   = "bans6"
	controlPin = "control"
)

// controlPage is struct control of types.h: what user space tells all programs, in memory that both map.
type controlPage struct {
	EventsUntil uint64
	// Bans is how many entries bans4 and bans6 have; at 0 the programs look for none. It may be too
	// high for a moment, and after a crash, but never too low.
	Bans [2]uint32
}

// banKey4 and banKey6 are what the tries are keyed by: the length, then the address as on the wire.
type (
	banKey4 struct {
		Bits uint32
		Addr [4]byte
	}
	banKey6 struct {
		Bits uint32
		Addr [16]byte
	}
)

// banMaps are the opened maps of the bans.
type banMaps struct {
	v4, v6, control *ebpf.Map
	page            []byte
}

// openBans opens the pinned maps. It fails with [ErrNothingAttached] if there are none: the programs
// that are attached make them.
func (d *StateDir) openBans() (_ *banMaps, err error) {
	m := &banMaps{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	for _, pin := range []struct {
		name       string
		to         **ebpf.Map
		key, value int
	}{
		{bans4Pin, &m.v4, int(unsafe.Sizeof(banKey4{})), int(unsafe.Sizeof(banValue{}))},
		{bans6Pin, &m.v6, int(unsafe.Sizeof(banKey6{})), int(unsafe.Sizeof(banValue{}))},
		{controlPin, &m.control, 4, 0},
	} {
		*pin.to, err = ebpf.LoadPinnedMap(d.pin(pin.name), nil)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w (weir attach, or weir run)", d.name, ErrNothingAttached)
		}
		if err != nil {
			return nil, fmt.Errorf("open the pinned %s: %w", pin.name, explain(err))
		}
		if got := *pin.to; int(got.KeySize()) != pin.key || pin.value != 0 && int(got.ValueSize()) != pin.value {
			return nil, fmt.Errorf("%w: %s has keys of %d and values of %d bytes, want %d and %d (run: weir detach --all with the version that attached)",
				ErrIncompatible, pin.name, got.KeySize(), got.ValueSize(), pin.key, pin.value)
		}
	}
	return m, m.mapControl()
}

func (m *banMaps) mapControl() (err error) {
	if size := unsafe.Sizeof(controlPage{}); uintptr(m.control.ValueSize()) < size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrIncompatible, controlPin, m.control.ValueSize(), size)
	}
	m.page, err = unix.Mmap(m.control.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s: %w", controlPin, err)
	}
	return nil
}

func (m *banMaps) close() error {
	var errs []error
	if m.page != nil {
		errs = append(errs, unix.Munmap(m.page))
	}
	for _, one := range []*ebpf.Map{m.v4, m.v6, m.control} {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}

// banFamily are the bans of one address family, as they were when they were read.
type banFamily struct {
	index banIndex
	m     *ebpf.Map
	count *uint32 // in the control page
}

func (m *banMaps) family(is4 bool) (*banFamily, error) {
	control := (*controlPage)(unsafe.Pointer(&m.page[0]))
	var err error
	b := &banFamily{m: m.v4, count: &control.Bans[0]}
	if is4 {
		b.index, err = readBans(m.v4, func(k banKey4) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4(k.Addr), int(k.Bits)) })
	} else {
		b.m, b.count = m.v6, &control.Bans[1]
		b.index, err = readBans(m.v6, func(k banKey6) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom16(k.Addr), int(k.Bits)) })
	}
	return b, err
}

// readBans reads a whole trie, with a system call for a thousand entries.
func readBans[K any](m *ebpf.Map, prefix func(K) netip.Prefix) (banIndex, error) {
	const chunk = 1024
	keys, values := make([]K, chunk), make([]banValue, chunk)
	index := banIndex{}
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, err := m.BatchLookup(cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, explain(err)
		}
		for i := range n {
			index[prefix(keys[i])] = values[i]
		}
		if err != nil {
			return index, nil
		}
	}
}

// add bans a prefix, or nothing if it fails.
func (b *banFamily) add(prefix netip.Prefix, now, until time.Duration) error {
	if _, known := b.index[prefix]; !known {
		if err := b.makeRoom(uint64(now)); err != nil {
			return err
		}
		// Before the entry: the programs are to look for it as soon as it is there.
		atomic.StoreUint32(b.count, uint32(len(b.index)+1))
	}
	done := 0
	writes := b.index.adding(prefix, until)
	for _, w := range writes {
		if err := b.put(w); err != nil {
			return errors.Join(err, b.restore(writes[:done]))
		}
		done++
	}
	return nil
}

// restore puts back the entries that were written.
func (b *banFamily) restore(written []banWrite) error {
	var errs []error
	for _, w := range written {
		if old, known := b.index[w.prefix]; known {
			errs = append(errs, b.put(banWrite{w.prefix, old}))
		} else {
			errs = append(errs, b.m.Delete(banKey(w.prefix)))
		}
	}
	atomic.StoreUint32(b.count, uint32(len(b.index)))
	return errors.Join(errs...)
}

func (b *banFamily) makeRoom(now uint64) error {
	room := int(b.m.MaxEntries())
	if len(b.index) < room {
		return nil
	}
	if _, err := b.sweep(now); err != nil {
		return err
	}
	if len(b.index) >= room {
		return fmt.Errorf("%w: %d are in force (lift some: weir bans lists them; or ban a wider prefix)", ErrTooManyBans, len(b.index))
	}
	return nil
}

// remove lifts the ban of a prefix. The prefix goes last: until then the change can be repeated.
func (b *banFamily) remove(prefix netip.Prefix) error {
	for _, w := range b.index.removing(prefix) {
		if err := b.put(w); err != nil {
			return err
		}
	}
	return b.delete(prefix)
}

// sweep needs to change no other entry: an end that is past is nobody's latest.
func (b *banFamily) sweep(now uint64) (removed int, err error) {
	for prefix, v := range b.index {
		if v.OwnUntil > now {
			continue
		}
		if err := b.delete(prefix); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

func (b *banFamily) put(w banWrite) error {
	if err := b.m.Put(banKey(w.prefix), w.value); err != nil {
		return fmt.Errorf("write the entry of %s: %w", w.prefix, explain(err))
	}
	return nil
}

func (b *banFamily) delete(prefix netip.Prefix) error {
	if err := b.m.Delete(banKey(prefix)); err != nil {
		return fmt.Errorf("remove the entry of %s: %w", prefix, explain(err))
	}
	delete(b.index, prefix)
	atomic.StoreUint32(b.count, uint32(len(b.index)))
	return nil
}

func banKey(p netip.Prefix) any {
	if p.Addr().Is4() {
		return banKey4{uint32(p.Bits()), p.Addr().As4()}
	}
	return banKey6{uint32(p.Bits()), p.Addr().As16()}
}

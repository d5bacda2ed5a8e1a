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

// banMaps are the opened maps of the bans.
type banMaps struct {
	v4, v6, control *ebpf.Map
	page            []byte
}

// openBans opens the pinned maps. It fails with [ErrNothingAttached] if there are none: the programs
// that are attached make them.
func (d *StateDir) openBans() (*banMaps, error) {
	spec, err := ObjectsOf(HookXDP) // all hooks have the same shared maps
	if err != nil {
		return nil, err
	}
	return openBanMaps(func(object string) (*ebpf.Map, error) { return d.openWritable(spec.Maps[object], pinOf(object)) })
}

// openWritable opens a pinned map of just this shape, but for its number of entries.
func (d *StateDir) openWritable(want *ebpf.MapSpec, pin string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(d.pin(pin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w (weir attach, or weir run)", d.name, ErrNothingAttached)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned %s: %w", pin, explain(err))
	}
	if m.KeySize() != want.KeySize || m.ValueSize() != want.ValueSize {
		err := fmt.Errorf("%w: %s has keys of %d and values of %d bytes, want %d and %d (run: weir detach --all with the version that attached)",
			ErrIncompatible, pin, m.KeySize(), m.ValueSize(), want.KeySize, want.ValueSize)
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// pinOf is what a shared map of the object is pinned as.
func pinOf(object string) string {
	for _, m := range sharedPins {
		if m.object == object {
			return m.pin
		}
	}
	return object
}

// openBans opens what is pinned nowhere.
func (s *shared) openBans() (*banMaps, error) {
	return openBanMaps(func(object string) (*ebpf.Map, error) { return s.maps[object].Clone() })
}

func openBanMaps(open func(object string) (*ebpf.Map, error)) (_ *banMaps, err error) {
	m := &banMaps{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	for _, part := range []struct {
		object string
		to     **ebpf.Map
	}{{xdpMapBans4, &m.v4}, {xdpMapBans6, &m.v6}, {controlSection, &m.control}} {
		if *part.to, err = open(part.object); err != nil {
			return nil, err
		}
	}
	m.page, err = unix.Mmap(m.control.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the control page: %w", err)
	}
	return m, nil
}

// told is the control page, in memory that the programs map too. Its counts may be too high for a moment,
// and after a crash, but never too low: at 0 the programs look for no ban.
func (m *banMaps) told() *xdpControlPage { return (*xdpControlPage)(unsafe.Pointer(&m.page[0])) }

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
	var err error
	b := &banFamily{m: m.v4, count: &m.told().Bans[0]}
	if is4 {
		b.index, err = readTrie[xdpLpmIpv4, xdpBan](m.v4)
	} else {
		b.m, b.count = m.v6, &m.told().Bans[1]
		b.index, err = readTrie[xdpLpmIpv6, xdpBan](m.v6)
	}
	return b, err
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
			errs = append(errs, b.m.Delete(lpmKey(w.prefix)))
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
	if err := b.m.Put(lpmKey(w.prefix), w.value); err != nil {
		return fmt.Errorf("write the entry of %s: %w", w.prefix, explain(err))
	}
	return nil
}

func (b *banFamily) delete(prefix netip.Prefix) error {
	if err := b.m.Delete(lpmKey(prefix)); err != nil {
		return fmt.Errorf("remove the entry of %s: %w", prefix, explain(err))
	}
	delete(b.index, prefix)
	atomic.StoreUint32(b.count, uint32(len(b.index)))
	return nil
}

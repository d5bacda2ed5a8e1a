package loader

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// layoutVersion is WEIR_LAYOUT_VERSION of types.h.
const layoutVersion = 2

// ErrIncompatible says that what is pinned was made by another version, or with another table size.
var ErrIncompatible = errors.New("pinned state does not fit")

// sharedPins are the maps that all programs of a state directory have in common, by their names in the
// object, in the order in which they are made: nobody adopts a directory without a table, so it comes last.
var sharedPins = []sharedPin{
	{object: xdpMapIdentity, pin: "identity"},
	{object: xdpMapSlots, pin: "slots"},
	{object: xdpMapTags, pin: "tags"},
	{object: xdpMapBans4, pin: "bans4"},
	{object: xdpMapBans6, pin: "bans6"},
	{object: xdpMapEvents, pin: "events"},
	{object: controlSection, pin: "control"},
	{object: xdpMapHotSources, pin: hotPin, added: true},
	{object: hotSection, pin: hotControlPin, added: true},
	{object: xdpMapTable, pin: tablePin},
}

type sharedPin struct {
	object, pin string
	// added came after the first version with this layout: state of that one lacks it and is adopted all the
	// same, as programs that were loaded then know nothing of it.
	added bool
}

const (
	tablePin = "table"
	// controlSection is the section of the variable control, which makes a map of its own.
	controlSection = ".data.control"
	hotSection     = ".data.hot" // the same for hot_control
)

// shared is what all programs of a state directory have in common.
type shared struct {
	maps   map[string]*ebpf.Map // by their names in the object
	secret bucket.Secret
	made   bool // by this call, and so to be removed should it fail
}

func (s *shared) close() {
	for _, m := range s.maps {
		m.Close()
	}
}

func (s *shared) table() *ebpf.Map { return s.maps[xdpMapTable] }

// openShared opens the table and what goes with it, or makes them.
func (d *StateDir) openShared(spec *ebpf.CollectionSpec, entries int) (_ *shared, err error) {
	if _, err := os.Stat(d.pin(tablePin)); errors.Is(err, os.ErrNotExist) {
		return d.makeShared(spec, entries)
	}
	id, err := d.readIdentity()
	if err == nil && id.LayoutVersion != layoutVersion {
		err = fmt.Errorf("%w: it has layout %d, this version of weir has %d (run: weir detach --all; buckets start full then)",
			ErrIncompatible, id.LayoutVersion, layoutVersion)
	}
	if err != nil {
		return nil, err
	}
	s := &shared{maps: map[string]*ebpf.Map{}, secret: id.Secret}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, m := range sharedPins {
		opened, err := d.openSharedPin(spec, m)
		if err != nil {
			return nil, err
		}
		s.maps[m.object] = opened
	}
	if sets := s.table().MaxEntries(); sets != uint32(entries/bucket.SetWays) {
		return nil, fmt.Errorf("%w: the table has %d entries, %d are asked for (run: weir detach --all, as a table can't change its size)",
			ErrIncompatible, sets*bucket.SetWays, entries)
	}
	return s, nil
}

// openSharedPin opens one of the shared maps, and makes it if the version that made the others had none.
func (d *StateDir) openSharedPin(spec *ebpf.CollectionSpec, p sharedPin) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(d.pin(p.pin), nil)
	switch {
	case err == nil:
		return m, nil
	case !p.added || !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("open the pinned %s: %w (run: weir detach --all)", p.pin, explain(err))
	}
	if m, err = ebpf.NewMap(spec.Maps[p.object].Copy()); err != nil {
		return nil, fmt.Errorf("create the map %s: %w", p.pin, explain(err))
	}
	// Should the change fail it stays, empty: the next one finds it.
	if err := d.pinAt(m, d.pin(p.pin)); err != nil {
		return nil, errors.Join(fmt.Errorf("pin %s: %w", p.pin, err), m.Close())
	}
	return m, nil
}

func (d *StateDir) readIdentity() (id xdpTableIdentity, err error) {
	m, err := ebpf.LoadPinnedMap(d.pin("identity"), nil)
	if err != nil {
		return id, fmt.Errorf("open the pinned identity: %w (run: weir detach --all)", err)
	}
	defer m.Close()
	if m.ValueSize() != uint32(binary.Size(id)) {
		return id, fmt.Errorf("%w: identity of %d bytes, want %d (run: weir detach --all)", ErrIncompatible, m.ValueSize(), binary.Size(id))
	}
	return id, m.Lookup(uint32(0), &id)
}

// makeShared makes the table and what goes with it, and pins them.
func (d *StateDir) makeShared(spec *ebpf.CollectionSpec, entries int) (_ *shared, err error) {
	var undo undoStack
	defer func() { undo.runIf(err) }()

	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("draw the secret: %w", err)
	}
	secret := bucket.Secret{binary.NativeEndian.Uint64(random[:8]), binary.NativeEndian.Uint64(random[8:])}
	s, err := newShared(spec, entries, secret)
	if err != nil {
		return nil, err
	}
	undo.push(func() error { s.close(); return nil })
	for _, m := range sharedPins {
		path := d.pin(m.pin)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("clear away %s: %w", path, err)
		}
		if err := d.pinAt(s.maps[m.object], path); err != nil {
			return nil, fmt.Errorf("pin %s: %w", m.pin, err)
		}
		undo.push(func() error { return os.Remove(path) })
	}
	s.made = true
	return s, nil
}

// newShared makes the shared maps, pinned nowhere.
func newShared(spec *ebpf.CollectionSpec, entries int, secret bucket.Secret) (_ *shared, err error) {
	s := &shared{maps: map[string]*ebpf.Map{}, secret: secret}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the CPUs: %w", err)
	}
	// The table first: if there is no memory for it, the rest need not be tried.
	for _, m := range slices.Backward(sharedPins) {
		mapSpec := spec.Maps[m.object].Copy()
		switch m.object {
		case xdpMapTable:
			mapSpec.MaxEntries = uint32(entries / bucket.SetWays)
		case xdpMapTags:
			mapSpec.MaxEntries = uint32(max(entries/bucket.SetWays/2, 1))
		case xdpMapSlots:
			mapSpec.MaxEntries = uint32(cpus * bucket.SlotCount)
		}
		made, err := ebpf.NewMap(mapSpec)
		if err != nil {
			return nil, fmt.Errorf("create the map %s of %d entries: %w", m.pin, mapSpec.MaxEntries, explain(err))
		}
		s.maps[m.object] = made
	}
	id := xdpTableIdentity{LayoutVersion: layoutVersion, Secret: secret}
	if err := s.maps[xdpMapIdentity].Put(uint32(0), id); err != nil {
		return nil, fmt.Errorf("store the secret: %w", err)
	}
	return s, nil
}

// removeShared unpins what is shared; a missing pin is what was wanted. The table goes first: see sharedPins.
func (d *StateDir) removeShared() error {
	var errs []error
	for _, m := range slices.Backward(sharedPins) {
		if err := os.Remove(d.pin(m.pin)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// undoStack has the inverse of every step of a transaction so far.
type undoStack []func() error

func (u *undoStack) push(f func() error) { *u = append(*u, f) }

// runIf undoes everything, last step first, if err is an error. What can't be undone is left to the
// next load or detach, which clear away what they find; the first error is the one that matters.
func (u *undoStack) runIf(err error) {
	if err == nil {
		return
	}
	for i := len(*u) - 1; i >= 0; i-- {
		_ = (*u)[i]()
	}
}

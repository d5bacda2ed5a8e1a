package loader

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// layoutVersion is WEIR_LAYOUT_VERSION of types.h.
const layoutVersion = 1

// ErrIncompatible says that what is pinned was made by another version, or with another table size.
var ErrIncompatible = errors.New("pinned state does not fit")

// shared is what all programs of a state directory have in common.
type shared struct {
	table  *ebpf.Map
	secret bucket.Secret
	made   bool // by this call, and so to be removed should it fail
}

// openShared opens the table and its secret, or makes them.
func (d *StateDir) openShared(spec *ebpf.CollectionSpec, entries int) (*shared, error) {
	sets := uint32(entries / bucket.SetWays)
	table, err := ebpf.LoadPinnedMap(d.pin("table"), nil)
	if errors.Is(err, os.ErrNotExist) {
		return d.makeShared(spec, sets)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned table: %w", err)
	}
	id, err := d.readIdentity()
	if err == nil && id.LayoutVersion != layoutVersion {
		err = fmt.Errorf("%w: it has layout %d, this version of weir has %d (run: weir detach --all; buckets start full then)",
			ErrIncompatible, id.LayoutVersion, layoutVersion)
	}
	if err == nil && table.MaxEntries() != sets {
		err = fmt.Errorf("%w: the table has %d entries, %d are asked for (run: weir detach --all, as a table can't change its size)",
			ErrIncompatible, table.MaxEntries()*bucket.SetWays, entries)
	}
	if err != nil {
		table.Close()
		return nil, err
	}
	return &shared{table: table, secret: id.Secret}, nil
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

func (d *StateDir) makeShared(spec *ebpf.CollectionSpec, sets uint32) (_ *shared, err error) {
	var undo undoStack
	defer func() { undo.runIf(err) }()

	id := xdpTableIdentity{LayoutVersion: layoutVersion}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("draw the secret: %w", err)
	}
	id.Secret = [2]uint64{binary.NativeEndian.Uint64(random[:8]), binary.NativeEndian.Uint64(random[8:])}

	identity, err := ebpf.NewMap(spec.Maps[xdpMapIdentity])
	if err != nil {
		return nil, fmt.Errorf("create the identity map: %w", explain(err))
	}
	defer identity.Close()
	if err := identity.Put(uint32(0), id); err != nil {
		return nil, fmt.Errorf("store the secret: %w", err)
	}
	tableSpec := spec.Maps[xdpMapTable].Copy()
	tableSpec.MaxEntries = sets
	table, err := ebpf.NewMap(tableSpec)
	if err != nil {
		return nil, fmt.Errorf("create a table of %d entries: %w", sets*bucket.SetWays, explain(err))
	}
	undo.push(table.Close)
	// The identity first: a table without one would be adopted by nobody.
	for _, pin := range []struct {
		m    *ebpf.Map
		name string
	}{{identity, "identity"}, {table, "table"}} {
		path := d.pin(pin.name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("clear away %s: %w", path, err)
		}
		if err := d.pinAt(pin.m, path); err != nil {
			return nil, fmt.Errorf("pin %s: %w", pin.name, err)
		}
		undo.push(func() error { return os.Remove(path) })
	}
	return &shared{table: table, secret: id.Secret, made: true}, nil
}

// removeShared unpins the table and its identity; missing ones are what was wanted.
func (d *StateDir) removeShared() error {
	var errs []error
	for _, name := range []string{"table", "identity"} {
		if err := os.Remove(d.pin(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
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

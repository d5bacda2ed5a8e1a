package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// LayoutVersion is the version of the layout of everything that is pinned. Versions of weir that
// have the same one can adopt each other's state.
const LayoutVersion = layoutVersion

// Owner is the attachment that something pinned belongs to. It is empty for what all of them share.
type Owner struct {
	Interface string `json:"interface,omitempty"` // the name at the time of the attachment
	Hook      Hook   `json:"hook,omitempty"`
	Namespace uint64 `json:"netns,omitempty"`
}

// PinnedMap describes a map of a state directory.
type PinnedMap struct {
	Owner
	Name       string `json:"name"`
	Path       string `json:"path"`
	ID         uint32 `json:"id"`
	Type       string `json:"type"`
	KeySize    uint32 `json:"key_size"`   // bytes
	ValueSize  uint32 `json:"value_size"` // bytes; of a per-CPU map, on one CPU
	MaxEntries uint32 `json:"max_entries"`
	Memory     uint64 `json:"memory_bytes"` // by the kernel's own estimate; 0 if it gives none
}

// The maps in the order in which they are listed: those that are pinned beside the attachments, and those
// of each attachment.
var (
	listedShared = [...]string{tablePin, "tags", "slots", "identity", "bans4", "bans6", "control", "events", hotPin, hotControlPin}
	listedOwn    = [...]string{"constants", "document", "sources4", "sources6", "ports", "interface_stats", "policy_stats"}
)

// Maps lists the pinned maps: the shared ones, then those of each attachment.
func (d *StateDir) Maps() ([]PinnedMap, error) {
	var all []PinnedMap
	for _, name := range listedShared {
		m, err := d.describeMap(Owner{}, name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a load that was interrupted, or is in progress
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *m)
	}
	own, err := perAttachment(d, "maps", d.describeOwnMaps)
	return append(all, own...), err
}

func (d *StateDir) describeOwnMaps(id attachmentID, set string) ([]PinnedMap, error) {
	var all []PinnedMap
	for _, name := range listedOwn {
		m, err := d.describeMap(id.owner(), set, name)
		if err != nil {
			return nil, err
		}
		all = append(all, *m)
	}
	return all, nil
}

func (a attachmentID) owner() Owner {
	return Owner{Interface: a.iface, Hook: a.hook, Namespace: a.namespace}
}

func (d *StateDir) attachmentIDs() ([]attachmentID, error) {
	names, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list state directory: %w", err)
	}
	var ids []attachmentID
	for _, n := range names {
		if id, ok := parseAttachmentID(n.Name()); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// perAttachment reads something of every attachment, from the set that is in force.
func perAttachment[T any](d *StateDir, what string, read func(id attachmentID, set string) ([]T, error)) ([]T, error) {
	ids, err := d.attachmentIDs()
	if err != nil {
		return nil, err
	}
	var all []T
	for _, id := range ids {
		var some []T
		err := d.readSet(id, func(set string) (err error) {
			some, err = read(id, set)
			return err
		})
		if errors.Is(err, errUnattached) {
			continue // not yet, or not any more
		}
		if err != nil {
			return nil, fmt.Errorf("read the %s of %s: %w", what, id.iface, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func (d *StateDir) describeMap(owner Owner, pin ...string) (*PinnedMap, error) {
	m, err := d.openMap(pin...)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return nil, fmt.Errorf("read about the map %s: %w", filepath.Join(pin...), explain(err))
	}
	id, _ := info.ID()
	memory, _ := info.Memlock()
	return &PinnedMap{
		Owner: owner, Name: pin[len(pin)-1], Path: filepath.Join(append([]string{d.name}, pin...)...),
		ID: uint32(id), Type: m.Type().String(), KeySize: m.KeySize(), ValueSize: m.ValueSize(),
		MaxEntries: m.MaxEntries(), Memory: memory,
	}, nil
}

func (d *StateDir) openMap(pin ...string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(d.pin(pin...), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open the pinned map %s: %w", filepath.Join(pin...), explain(err))
	}
	return m, nil
}

// PinnedLayout is the layout version of what is pinned. The secret beside it stays where it is.
func (d *StateDir) PinnedLayout() (uint32, error) {
	id, err := d.readIdentity()
	return id.LayoutVersion, err
}

package loader

import (
	"errors"
	"fmt"
	"os"
)

// Detach takes weir off the interfaces of that name, in whatever network namespace. With the last
// attachment the table goes as well. It fails with [ErrNothingAttached] if there is none.
func (d *StateDir) Detach(iface string) error {
	return d.detach(iface, func(id attachmentID) bool { return id.iface == iface })
}

// DetachAll takes weir off everything, and leaves nothing behind. It does not mind if there is
// nothing, or what is there can't be read: an interrupted load, another version's pins.
func (d *StateDir) DetachAll() error {
	err := d.detach("", func(attachmentID) bool { return true })
	if err != nil && !errors.Is(err, ErrNothingAttached) {
		return err
	}
	return d.removeShared()
}

func (d *StateDir) detach(iface string, matches func(attachmentID) bool) error {
	names, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("list state directory: %w", err)
	}
	found, left := false, false
	for _, n := range names {
		id, ok := parseAttachmentID(n.Name())
		if !ok && n.Name() != tmpName {
			continue
		}
		if ok && !matches(id) {
			left = true
			continue
		}
		// Removing the link's pin detaches: nobody else holds it.
		if err := os.RemoveAll(d.pin(n.Name())); err != nil {
			return fmt.Errorf("detach %s: %w", n.Name(), err)
		}
		found = found || ok
	}
	if !found {
		if iface == "" {
			iface = d.name
		}
		return fmt.Errorf("%s: %w", iface, ErrNothingAttached)
	}
	if !left {
		return d.removeShared()
	}
	return nil
}

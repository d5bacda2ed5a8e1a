package loader

import (
	"errors"
	"fmt"
	"os"
)

// Detach takes weir off the interface of that name, now or when it was attached to: the one in this
// network namespace or, if there is none, those in others. With the last attachment the table goes
// as well. It fails with [ErrNothingAttached] if there is none.
func (d *StateDir) Detach(iface string) error {
	here, err := netNamespace()
	if err != nil {
		return err
	}
	called := func(id attachmentID) bool {
		if id.iface == iface {
			return true
		}
		a := Attachment{Interface: id.iface, Namespace: id.namespace}
		return d.readLink(id, &a) == nil && a.Interface == iface
	}
	err = d.detach(iface, func(id attachmentID) bool { return id.namespace == here && called(id) })
	if errors.Is(err, ErrNothingAttached) {
		err = d.detach(iface, called)
	}
	return err
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
	ids, err := d.attachmentIDs()
	if err != nil {
		return err
	}
	d.clearLeftovers()
	left := len(ids)
	for _, id := range ids {
		if !matches(id) {
			continue
		}
		// Removing the link's pin detaches: nobody else holds it.
		if err := os.RemoveAll(d.pin(id.String())); err != nil {
			return fmt.Errorf("detach %s: %w", id.iface, err)
		}
		left--
	}
	if left == len(ids) {
		if iface == "" {
			iface = d.name
		}
		return fmt.Errorf("%s: %w", iface, ErrNothingAttached)
	}
	if left == 0 {
		return d.removeShared()
	}
	return nil
}

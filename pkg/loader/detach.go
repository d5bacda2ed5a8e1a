package loader

import (
	"errors"
	"fmt"
	"os"
)

// Detach takes weir off the interface of that name, now or when it was attached to, at all its hooks: off
// the one in this network namespace or, if there is none, off those in others. With the last attachment
// the table goes as well. It fails with [ErrNothingAttached] if there is none.
func (d *StateDir) Detach(iface string) error {
	return d.detachNamed(iface, func(attachmentID) bool { return true })
}

// DetachHook is Detach of one hook of the interface alone.
func (d *StateDir) DetachHook(iface string, hook Hook) error {
	if _, err := hook.traits(); err != nil {
		return err
	}
	return d.detachNamed(iface, func(id attachmentID) bool { return id.hook == hook.orXDP() })
}

func (d *StateDir) detachNamed(iface string, chosen func(attachmentID) bool) error {
	here, err := netNamespace()
	if err != nil {
		return err
	}
	called := func(id attachmentID) bool {
		if !chosen(id) {
			return false
		}
		if id.iface == iface {
			return true
		}
		a := Attachment{Interface: id.iface, Namespace: id.namespace, Hook: id.hook}
		return d.readPlace(id, &a) == nil && a.Interface == iface
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
	var failed []error
	left := len(ids)
	for _, id := range ids {
		if !matches(id) {
			continue
		}
		if err := d.detachOne(id); err != nil {
			failed = append(failed, fmt.Errorf("detach %s: %w", id.iface, err))
			continue
		}
		left--
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
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

// detachOne takes the program off first: what is killed after that leaves pins, which the next change
// sweeps away, and never a program without them. A hold that can't be read is a pin like others.
func (d *StateDir) detachOne(id attachmentID) error {
	if err := d.reach("release"); err != nil {
		return err
	}
	if h, _, err := d.openHold(id); err == nil {
		defer h.close()
		if err := h.release(); err != nil {
			return err
		}
	}
	if err := d.reach("remove"); err != nil {
		return err
	}
	return os.RemoveAll(d.pin(id.String()))
}

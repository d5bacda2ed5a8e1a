package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// A set is a loaded program with the maps that are its own, pinned in a directory that is named by the
// program's id. Which of an attachment's sets is in force is written nowhere: the hold says which
// program packets meet, and so which set to read. The swap of the program is therefore all that a
// change consists of, and whoever is killed before or after it leaves nothing that says otherwise.
const setPrefix = "set-"

// errUnattached says that a directory of the state directory has no hold: an attach or a detach that
// is in progress, or was interrupted.
var errUnattached = errors.New("nothing holds a program there")

func setName(id ebpf.ProgramID) string { return setPrefix + strconv.FormatUint(uint64(id), 10) }

// sets lists the programs of an attachment's sets, newest last: ids are given in ascending order.
func (d *StateDir) sets(id attachmentID) ([]ebpf.ProgramID, error) {
	entries, err := os.ReadDir(d.pin(id.String()))
	if err != nil {
		return nil, fmt.Errorf("list the pins of %s: %w", id.iface, err)
	}
	var ids []ebpf.ProgramID
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), setPrefix)
		if n, err := strconv.ParseUint(number, 10, 32); ok && err == nil {
			ids = append(ids, ebpf.ProgramID(n))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// inForce reads where an attachment's hold is, and which of its sets packets meet: the path of its pins
// within the state directory. It fails with errUnattached if there is no hold.
func (d *StateDir) inForce(id attachmentID) (set string, mode Mode, at whereabouts, err error) {
	h, mode, err := d.openHold(id)
	if err != nil {
		return "", "", at, err
	}
	defer h.close()
	if at, err = h.whereabouts(); err != nil {
		return "", mode, at, err
	}
	set, err = d.setOf(id, at)
	return set, mode, at, err
}

// setOf names the set of the program that a hold has. A filter that was taken off, or whose network
// namespace is out of reach, has none to tell: then it is the newest.
func (d *StateDir) setOf(id attachmentID, at whereabouts) (string, error) {
	ids, err := d.sets(id)
	if err != nil {
		return "", err
	}
	program := at.program
	if program == 0 && len(ids) > 0 {
		program = ids[len(ids)-1]
	}
	if slices.Contains(ids, program) {
		return id.String() + "/" + setName(program), nil
	}
	return "", fmt.Errorf("%w: %s/%s, the program on %s: %w (run: weir detach %s)",
		ErrIncompatible, id, setName(program), id.iface, fs.ErrNotExist, id.iface)
}

// readTries bounds how often a reader without the lock looks again because the set that it was reading
// has been replaced. Each time somebody has loaded a program meanwhile.
const readTries = 16

// readSet calls read with the set that is in force, again if a change takes it away meanwhile.
func (d *StateDir) readSet(id attachmentID, read func(set string) error) error {
	for try := 1; ; try++ {
		set, _, _, err := d.inForce(id)
		if err == nil {
			err = read(set)
		}
		if !errors.Is(err, fs.ErrNotExist) || try == readTries {
			return err
		}
	}
}

// pinSet pins what was built below the attachment that it is for.
func (d *StateDir) pinSet(id attachmentID, b *built, undo *undoStack) error {
	info, err := b.program.Info()
	if err != nil {
		return fmt.Errorf("read about the program: %w", err)
	}
	program, ok := info.ID()
	if !ok {
		return fmt.Errorf("read the program's id: %w (weir needs Linux 5.15 or later)", ebpf.ErrNotSupported)
	}
	home, set := d.pin(id.String()), d.pin(id.String(), setName(program))
	undo.push(func() error { return os.Remove(home) }) // unless there is something else in it
	undo.push(func() error { return os.RemoveAll(set) })
	if err := os.MkdirAll(set, 0o700); err != nil {
		return fmt.Errorf("make a directory for the pins: %w", err)
	}
	if err := d.pinAt(b.program, set+"/program"); err != nil {
		return fmt.Errorf("pin the program: %w", err)
	}
	for name, m := range b.maps {
		if err := d.pinAt(m, set+"/"+ownMaps[name]); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

// pinAt pins one object; a step of its own, as each may fail and each may be the last.
func (d *StateDir) pinAt(object interface{ Pin(string) error }, path string) error {
	if err := d.reach("pin " + path[strings.LastIndexByte(path, '/')+1:]); err != nil {
		return err
	}
	return object.Pin(path)
}

// sweep removes what changes leave behind that succeeded, or were killed: sets that are not in force,
// and directories of attachments that never came to be or are gone. What fails is left for the next
// sweep: nobody reads it.
func (d *StateDir) sweep() {
	ids, err := d.attachmentIDs()
	if err != nil {
		return
	}
	for _, id := range ids {
		set, _, at, err := d.inForce(id)
		switch {
		case errors.Is(err, errUnattached):
			_ = os.RemoveAll(d.pin(id.String()))
		case err == nil && !at.unknown:
			d.sweepSets(id, set)
		}
	}
	d.clearLeftovers()
}

func (d *StateDir) sweepSets(id attachmentID, inForce string) {
	ids, err := d.sets(id)
	if err != nil {
		return
	}
	for _, program := range ids {
		if name := setName(program); id.String()+"/"+name != inForce {
			_ = os.RemoveAll(d.pin(id.String(), name))
		}
	}
}

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrNothingAttached says that there is no state directory: nothing was ever attached, or all of
	// it was detached.
	ErrNothingAttached = errors.New("nothing is attached")
	// ErrLocked says that another process is changing, or holds, the state directory.
	ErrLocked = errors.New("state directory is in use")
	// ErrStateDirGone says that the directory was removed by another way than detaching, and so what was
	// pinned in it.
	ErrStateDirGone = errors.New("the state directory was removed while this process held it")
)

const (
	lockPoll = 20 * time.Millisecond

	// What loads of older versions work in. One that was killed may have left it.
	tmpName = "loading"
)

// StateDir is an open state directory. Reading takes no lock; [StateDir.Attach] and the detaching
// methods want one from [Lock].
type StateDir struct {
	name string // as the user knows it
	path string // as this process reaches it
	lock *os.File
	home string // of the locked directory, to remove it when it is empty

	// onStep is called by tests alone: with the name of each step of a change before it is taken, to make
	// it fail, or to kill the process there.
	onStep func(step string) error
}

// Open opens a state directory for reading. It fails with [ErrNothingAttached] if there is none, and
// with [ErrNoBPFFS] if there can't be one.
func Open(path string) (*StateDir, error) {
	found, err := locate(path)
	if errors.Is(err, ErrNoBPFFS) && below(bpffsMount, path) {
		return nil, fmt.Errorf("%s: %w", path, ErrNothingAttached)
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(found); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNothingAttached)
	} else if err != nil {
		return nil, fmt.Errorf("open state directory: %w (needs root)", err)
	}
	return &StateDir{name: path, path: found}, nil
}

// Lock opens a state directory for changes, making it if need be, and keeps others from changing it
// until Close. It waits that long for another process to finish, and then fails with [ErrLocked].
func Lock(path string, wait time.Duration) (*StateDir, error) {
	found, err := locateOrMount(path)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; {
		lock, err := tryLock(found)
		if err == nil {
			// By the descriptor, because the way that led there may be closed to a process that
			// has given up its capabilities: see locate.
			self := fmt.Sprintf("/proc/self/fd/%d", lock.Fd())
			return &StateDir{name: path, path: self, lock: lock, home: found}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock state directory %s: %w (needs root)", path, err)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: %w%s; wait for it, stop it, or choose another directory with --bpffs",
				path, ErrLocked, lockHolder(found))
		}
		time.Sleep(lockPoll)
	}
}

// tryLock makes the directory and locks it; EWOULDBLOCK if another process has the lock.
func tryLock(path string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		return nil, err
	}
	// Whoever had the lock before may have removed the directory: then this one leads nowhere.
	mine, err1 := dir.Stat()
	current, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(mine, current) {
		dir.Close()
		return nil, unix.EWOULDBLOCK
	}
	return dir, nil
}

// lockHolder names the process that has the lock, for an error message; "" if it can't be found.
func lockHolder(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != inode {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join("/proc", f[4], "comm"))
		return fmt.Sprintf(" by process %s (%s)", f[4], strings.TrimSpace(string(comm)))
	}
	return ""
}

// Name is the path that the directory was opened by.
func (d *StateDir) Name() string { return d.name }

// Close gives up the lock, and removes the directory if nothing is in it.
func (d *StateDir) Close() error {
	if d.lock == nil {
		return nil
	}
	err := os.Remove(d.home) // fails if there is anything to keep
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.lock.Close())
}

// reach is called before each step of a change that may fail, or be the last of the process.
func (d *StateDir) reach(step string) error {
	if d.onStep == nil {
		return nil
	}
	return d.onStep(step)
}

// checkHome holds that the locked directory is still the one that others find.
func (d *StateDir) checkHome() error {
	if d.lock == nil {
		return nil
	}
	mine, err := d.lock.Stat()
	if err != nil {
		return fmt.Errorf("look at state directory %s: %w", d.name, err)
	}
	if found, err := os.Stat(d.home); err != nil || !os.SameFile(mine, found) {
		return fmt.Errorf("%s: %w; what was pinned in it is detached (start weir anew)", d.name, ErrStateDirGone)
	}
	return nil
}

// clearLeftovers removes what a load of an older version works in. It does not matter if that fails: nobody reads it, and
// making it anew fails with an error of its own.
func (d *StateDir) clearLeftovers() { _ = os.RemoveAll(d.pin(tmpName)) }

func (d *StateDir) pin(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

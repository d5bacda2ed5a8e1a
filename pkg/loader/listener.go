package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// ErrListening says that another process has the events.
var ErrListening = errors.New("somebody else listens to the events")

const (
	// The programs write until an instant that the listener keeps in the future. One that was killed costs
	// nothing any more after listenAhead.
	listenAhead   = 3 * time.Second
	listenRenewed = time.Second
)

// listener reads a ring buffer of a state directory, of which there is one reader at a time: two would take
// the records from each other.
type listener struct {
	about   listened
	ring    *ebpf.Map
	reader  *ringbuf.Reader
	page    []byte         // what the listener tells the programs, mapped
	until   *atomic.Uint64 // in it: ns of the monotonic clock
	lock    *os.File
	unknown atomic.Uint64
}

// listened is what a listener listens to.
type listened struct {
	what       string // for messages
	ring, page string // the pins
	pageSize   uintptr
	lock       string // the file in the runtime directory
	missing    error  // what is attached is of a version that has no such pins
	// wait is how long a read waits for the kernel to say that there is something. It looks all the same then, as
	// the kernel does not wake a reader for every record.
	wait time.Duration
}

// open makes this process the listener, until Close, which is the caller's also if open fails.
func (l *listener) open(d *StateDir, about listened, runDir string) (err error) {
	l.about = about
	if l.ring, err = d.openWritten(about.ring, about.missing); err != nil {
		return err
	}
	if err := l.openPage(d); err != nil {
		return err
	}
	if l.lock, err = lockListener(filepath.Join(runDir, about.lock)); err != nil {
		return err
	}
	if l.reader, err = ringbuf.NewReader(l.ring); err != nil {
		return fmt.Errorf("map the ring buffer of %s: %w", about.what, explain(err))
	}
	return nil
}

func lockListener(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the runtime directory: %w (needs root; or choose another one with --run-dir)", err)
	}
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the events: %w (needs root; or choose another directory with --run-dir)", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("%s: %w%s; stop it, or ask the daemon if it is that", path, ErrListening, lockHolder(path))
	case err != nil:
		err = fmt.Errorf("lock %s: %w", path, err)
	default:
		return lock, nil
	}
	return nil, errors.Join(err, lock.Close())
}

// openWritten opens a map that both the programs and a listener write to.
func (d *StateDir) openWritten(pin string, missing error) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(d.pin(pin), nil)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(d.pin(tablePin)); err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
		}
		return nil, fmt.Errorf("%s: %w: there is no pin %s (run: weir attach again, with this version)", d.name, missing, pin)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned map %s: %w", pin, explain(err))
	}
	return m, nil
}

// openPage maps the page that says until when somebody listens, in its first word: others change what is beside it,
// so that it can't be written as a map's value.
func (l *listener) openPage(d *StateDir) error {
	m, err := d.openWritten(l.about.page, l.about.missing)
	if err != nil {
		return err
	}
	defer m.Close() // the mapping outlives it
	if m.Type() != ebpf.Array || uintptr(m.ValueSize()) < l.about.pageSize {
		return fmt.Errorf("%w: %s is %v", ErrIncompatible, l.about.page, m)
	}
	if l.page, err = unix.Mmap(m.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map the page %s: %w", l.about.page, err)
	}
	l.until = (*atomic.Uint64)(unsafe.Pointer(&l.page[0]))
	return nil
}

// run lets the programs write, and calls take with each record and the instant at which run began, until ctx ends;
// then they stop. take returns an error for what is no record, which is counted. It returns nil unless the ring buffer can't be read.
func (l *listener) run(ctx context.Context, take func(record []byte, started time.Duration) error) error {
	defer l.until.Store(0)
	defer context.AfterFunc(ctx, func() { _ = l.reader.Flush() })() // wakes a read that waits
	var record ringbuf.Record
	started := Monotonic()
	renewAt := started
	l.reader.SetDeadline(time.Now().Add(l.about.wait))
	for ctx.Err() == nil {
		if now := Monotonic(); now >= renewAt {
			l.until.Store(uint64(now + listenAhead))
			renewAt = now + listenRenewed
		}
		err := l.reader.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.reader.SetDeadline(time.Now().Add(l.about.wait))
		case errors.Is(err, ringbuf.ErrFlushed): // ctx has ended, or that of the run before
		case err != nil:
			return fmt.Errorf("read the ring buffer of %s: %w", l.about.what, err)
		default:
			if take(record.RawSample, started) != nil {
				l.unknown.Add(1)
			}
		}
	}
	return nil
}

// Lost is how many records were not as this version knows them. Those that found the ring buffer full are counted
// by the programs.
func (l *listener) Lost() uint64 { return l.unknown.Load() }

// Close lets another process listen. Run must have returned.
func (l *listener) Close() error {
	var errs []error
	if l.reader != nil {
		errs = append(errs, l.reader.Close())
	}
	if l.page != nil {
		errs = append(errs, unix.Munmap(l.page))
	}
	if l.ring != nil {
		errs = append(errs, l.ring.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close()) // and gives it up
	}
	return errors.Join(errs...)
}

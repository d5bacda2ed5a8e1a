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

var (
	// ErrListening says that another process has the events.
	ErrListening = errors.New("somebody else listens to the events")
	// ErrNoEvents says that what is attached is of a version of weir that has no events.
	ErrNoEvents = errors.New("what is attached emits no events")
)

const (
	// The programs emit events until an instant that the listener keeps in the future. One that was
	// killed costs nothing any more after eventsAhead.
	eventsAhead   = 3 * time.Second
	eventsRenewed = time.Second
	// eventsWait is how long a read waits for the kernel to say that there is something. It looks all
	// the same then, as the kernel does not wake a reader for every event.
	eventsWait = 100 * time.Millisecond
)

// Events is the ring buffer of a state directory, of which there is one listener at a time: two would
// take the events from each other.
type Events struct {
	ring    *ebpf.Map
	reader  *ringbuf.Reader
	control []byte         // the mapped page
	until   *atomic.Uint64 // in it: events_until, in ns of the monotonic clock
	lock    *os.File
	lost    atomic.Uint64
}

// OpenEvents makes this process the listener, until Close. It fails with [ErrListening] if another one
// is, [ErrNothingAttached], or [ErrNoEvents]. runDir is where the lock is, and is made if need be.
func (d *StateDir) OpenEvents(runDir string) (_ *Events, err error) {
	e := &Events{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.ring, err = d.openEventsMap("events"); err != nil {
		return nil, err
	}
	if err := e.openControl(d); err != nil {
		return nil, err
	}
	if e.lock, err = lockEvents(filepath.Join(runDir, "events.lock")); err != nil {
		return nil, err
	}
	if e.reader, err = ringbuf.NewReader(e.ring); err != nil {
		return nil, fmt.Errorf("map the ring buffer of events: %w", explain(err))
	}
	return e, nil
}

func lockEvents(path string) (*os.File, error) {
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

// openEventsMap opens a map that both the programs and the listener write to.
func (d *StateDir) openEventsMap(pin string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(d.pin(pin), nil)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(d.pin(tablePin)); err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
		}
		return nil, fmt.Errorf("%s: %w: there is no pin %s (run: weir attach again, with this version)", d.name, ErrNoEvents, pin)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned map %s: %w", pin, explain(err))
	}
	return m, nil
}

// openControl maps the control page: others change what is beside the one word that is the listener's,
// so that it can't be written as a map's value.
func (e *Events) openControl(d *StateDir) error {
	m, err := d.openEventsMap("control")
	if err != nil {
		return err
	}
	defer m.Close() // the mapping outlives it
	if m.Type() != ebpf.Array || uintptr(m.ValueSize()) < unsafe.Sizeof(xdpControlPage{}) {
		return fmt.Errorf("%w: control is %v", ErrIncompatible, m)
	}
	if e.control, err = unix.Mmap(m.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map the control page: %w", err)
	}
	e.until = (*atomic.Uint64)(unsafe.Pointer(&(*xdpControlPage)(unsafe.Pointer(&e.control[0])).EventsUntil))
	return nil
}

// Run lets the programs emit events, and calls handle with each, until ctx ends; then they stop. It
// returns nil unless the ring buffer can't be read. It may be called again, but not twice at once.
func (e *Events) Run(ctx context.Context, handle func(Event)) error {
	defer e.until.Store(0)
	defer context.AfterFunc(ctx, func() { _ = e.reader.Flush() })() // wakes a read that waits
	var record ringbuf.Record
	started := Monotonic()
	renewAt := started
	e.reader.SetDeadline(time.Now().Add(eventsWait))
	for ctx.Err() == nil {
		if now := Monotonic(); now >= renewAt {
			e.until.Store(uint64(now + eventsAhead))
			renewAt = now + eventsRenewed
		}
		err := e.reader.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			e.reader.SetDeadline(time.Now().Add(eventsWait))
		case errors.Is(err, ringbuf.ErrFlushed): // ctx has ended, or that of the Run before
		case err != nil:
			return fmt.Errorf("read the ring buffer of events: %w", err)
		default:
			e.take(record.RawSample, started, handle)
		}
	}
	return nil
}

// take decodes one record. One that is older than started is of the listener before this one, and stands
// for traffic that this one is not to count.
func (e *Events) take(b []byte, started time.Duration, handle func(Event)) {
	event, err := decodeEvent(b)
	if err != nil {
		e.lost.Add(1)
		return
	}
	if event.Time >= started {
		handle(event)
	}
}

// Lost is how many records were not events as this version knows them. Those that found the ring buffer
// full are counted by the programs.
func (e *Events) Lost() uint64 { return e.lost.Load() }

// Close lets another process listen. Run must have returned.
func (e *Events) Close() error {
	var errs []error
	if e.reader != nil {
		errs = append(errs, e.reader.Close())
	}
	if e.control != nil {
		errs = append(errs, unix.Munmap(e.control))
	}
	if e.ring != nil {
		errs = append(errs, e.ring.Close())
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close()) // and gives it up
	}
	return errors.Join(errs...)
}

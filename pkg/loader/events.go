package loader

import (
	"context"
	"errors"
	"time"
	"unsafe"
)

// ErrNoEvents says that what is attached is of a version of weir that has no events.
var ErrNoEvents = errors.New("what is attached emits no events")

// Events is the ring buffer of a state directory's events.
type Events struct{ listener }

// OpenEvents makes this process the listener, until Close. It fails with [ErrListening] if another one
// is, [ErrNothingAttached], or [ErrNoEvents]. runDir is where the lock is, and is made if need be.
func (d *StateDir) OpenEvents(runDir string) (*Events, error) {
	e := &Events{}
	err := e.open(d, listened{
		what: "events", ring: "events", page: "control", pageSize: unsafe.Sizeof(xdpControlPage{}),
		lock: "events.lock", missing: ErrNoEvents, wait: 100 * time.Millisecond,
	}, runDir)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Run lets the programs emit events, and calls handle with each, until ctx ends; then they stop. It
// returns nil unless the ring buffer can't be read. It may be called again, but not twice at once.
func (e *Events) Run(ctx context.Context, handle func(Event)) error {
	return e.run(ctx, func(record []byte, started time.Duration) error {
		event, err := decodeEvent(record)
		// One that is older is of the listener before this one, and stands for traffic that this one is not to count.
		if err == nil && event.Time >= started {
			handle(event)
		}
		return err
	})
}

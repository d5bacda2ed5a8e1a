package loader

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/eventtest"
	"github.com/weir-limiter/weir/internal/testutil"
)

// eventsTestLimit bounds whatever a test waits for, far above what it takes.
const eventsTestLimit = 10 * time.Second

// emitter is a state directory in which programs emit events, and nothing else is.
type emitter struct {
	*eventtest.Emitter
	t      *testing.T
	dir    *StateDir
	runDir string
}

func newEmitter(t *testing.T) *emitter {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	d, err := Lock(fmt.Sprintf("%s/weir-test-%d-%s", bpffsMount, os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return &emitter{eventtest.New(t, d.pin()), t, d, filepath.Join(t.TempDir(), "run")}
}

// listen runs the listener until the test has what it wants.
func (e *emitter) listen(events *Events) (got <-chan Event, stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(e.t.Context())
	all, done := make(chan Event, 1000), make(chan error, 1)
	go func() { done <- events.Run(ctx, func(event Event) { all <- event }) }()
	e.Await("somebody to listen", func() bool { return e.Until() != 0 })
	return all, func() {
		e.t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				e.t.Errorf("Run: %v", err)
			}
		case <-time.After(eventsTestLimit):
			e.t.Fatal("Run does not end")
		}
	}
}

func (e *emitter) next(got <-chan Event) Event {
	e.t.Helper()
	select {
	case event := <-got:
		return event
	case <-time.After(eventsTestLimit):
		e.t.Fatal("no event came")
		return Event{}
	}
}

// What a program in the kernel wrote arrives, through many turns of the ring, and nothing else does: not
// what was there before, and not what is no event.
func TestEvents(t *testing.T) {
	e := newEmitter(t)
	now := func(packets uint64) []byte {
		r := aDrop()
		r.Time, r.Packets = uint64(Monotonic()), packets
		return r.Record()
	}
	events, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	e.Emit(now(999)) // before anybody listens: left over
	got, stop := e.listen(events)
	for i := uint64(1); i <= 300; i++ { // the ring has room for 63
		if !e.Emit(now(i)) {
			t.Fatalf("event %d found no room", i)
		}
		if event := e.next(got); event.Packets != i || event.Source != netip.MustParseAddr("192.0.2.1") {
			t.Fatalf("got %+v, want number %d", event, i)
		}
	}
	e.Emit(now(1)[:48])
	e.Emit(append(now(1), make([]byte, 8)...))
	e.Emit(eventtest.Event{Version: 9, Packets: 1, Time: uint64(Monotonic())}.Record())
	e.Emit(now(301))
	if event := e.next(got); event.Packets != 301 || events.Lost() != 3 {
		t.Errorf("got %+v, and %d lost, want number 301 and 3", event, events.Lost())
	}
	stop()

	// Again, on the same ring.
	got, stop = e.listen(events)
	e.Emit(now(302))
	if event := e.next(got); event.Packets != 302 {
		t.Errorf("got %+v, want number 302", event)
	}
	stop()
	if err := events.Close(); err != nil {
		t.Error(err)
	}
}

// The programs are told to emit while somebody listens, and the other fields of the page are not touched.
func TestEventsControl(t *testing.T) {
	e := newEmitter(t)
	quiet := [2]uint64{0, 0x0000000700000005}
	e.SetControl(quiet)
	events, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	if e.Until() != 0 {
		t.Error("the programs emit though nobody listens yet")
	}
	_, stop := e.listen(events)
	first := e.Until()
	if ahead := first - Monotonic(); ahead <= 0 || ahead > listenAhead {
		t.Errorf("the programs emit for %v, want %v at most", ahead, listenAhead)
	}
	e.Await("it to be renewed", func() bool { return e.Until() != first })
	stop()
	if got := e.Control(); got != quiet {
		t.Errorf("control is %x, want nobody to listen, and the rest as it was: %x", got, quiet)
	}
	if err := events.Close(); err != nil {
		t.Error(err)
	}
}

// The listener finds what a program wrote without waking anybody, and makes room in a ring that is full.
func TestEventsFullRing(t *testing.T) {
	e := newEmitter(t)
	e.NoWakeup = true
	events, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	r := aDrop()
	r.Time = uint64(Monotonic() + time.Hour)
	room := 0
	for e.Emit(r.Record()) {
		room++
	}
	if room != os.Getpagesize()/(eventSize+8)-1 {
		t.Errorf("the ring had room for %d", room)
	}
	got, stop := e.listen(events)
	for range room {
		e.next(got)
	}
	if !e.Emit(r.Record()) {
		t.Error("there is still no room")
	}
	e.next(got)
	stop()
	if err := events.Close(); err != nil {
		t.Error(err)
	}
}

func TestEventsLock(t *testing.T) {
	e := newEmitter(t)
	first, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.dir.OpenEvents(e.runDir)
	if holder := fmt.Sprintf("by process %d (", os.Getpid()); !errors.Is(err, ErrListening) || !strings.Contains(err.Error(), holder) {
		t.Errorf("a second listener: %v, want %q", err, holder)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	second, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func TestEventsMissing(t *testing.T) {
	for _, c := range []struct {
		name string
		pins []string
		want error
	}{
		{"nothing", []string{"events", "control"}, ErrNothingAttached},
		{"another version", []string{"control"}, ErrNoEvents},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEmitter(t)
			for _, pin := range c.pins {
				if err := os.Remove(e.dir.pin(pin)); err != nil {
					t.Fatal(err)
				}
			}
			if len(c.pins) == 1 {
				e.NewMap("table", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
			}
			if _, err := e.dir.OpenEvents(e.runDir); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

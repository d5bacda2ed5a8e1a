package loader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// eventsTestLimit bounds whatever a test waits for, far above what it takes.
const eventsTestLimit = 10 * time.Second

// rawEvent is struct event of types.h, as a program writes it.
type rawEvent struct {
	source                     [2]uint64
	time, packets, bytes       uint64
	ifindex                    uint32
	port                       uint16
	version, protocol          uint8
	verdict, slot, cause, hook uint8
	pad                        [4]uint8
}

var _ [eventSize]byte = [unsafe.Sizeof(rawEvent{})]byte{}

func (r rawEvent) record() []byte {
	b, err := binary.Append(nil, binary.NativeEndian, struct {
		Source               [2]uint64
		Time, Packets, Bytes uint64
		Ifindex              uint32
		Port                 uint16
		Rest                 [10]uint8
	}{r.source, r.time, r.packets, r.bytes, r.ifindex, r.port,
		[10]uint8{r.version, r.protocol, r.verdict, r.slot, r.cause, r.hook}})
	if err != nil {
		panic(err)
	}
	return b
}

// aDrop is an event of somebody over IPv4 who was denied.
func aDrop() rawEvent {
	return rawEvent{
		source: [2]uint64{0, 0xc0000201}, time: 5e9, packets: 37, bytes: 3700, ifindex: 7, port: 53,
		version: 4, protocol: unix.IPPROTO_UDP, verdict: 1, slot: 3, cause: 1, hook: 2,
	}
}

func TestDecodeEvent(t *testing.T) {
	drop := Event{
		Source: netip.MustParseAddr("192.0.2.1"), Time: 5 * time.Second, Packets: 37, Bytes: 3700, Interface: 7, Port: 53,
		Protocol: 17, Verdict: policy.VerdictDrop, Slot: 3, Cause: CauseStranger, Hook: "tc-egress",
	}
	passed, six := drop, drop
	passed.Verdict, passed.Cause, passed.Slot = policy.VerdictPass, "", NoSlot
	six.Source, six.Verdict, six.Hook = netip.MustParseAddr("2001:db8::1"), policy.VerdictShadowDrop, "xdp"
	for _, c := range []struct {
		name   string
		change func(*rawEvent)
		want   Event
		fault  string
	}{
		{"drop", func(*rawEvent) {}, drop, ""},
		{"pass", func(r *rawEvent) { r.verdict, r.slot = 0, NoSlot }, passed, ""},
		{"IPv6", func(r *rawEvent) {
			r.version, r.source, r.verdict, r.hook = 6, [2]uint64{0x20010db800000000, 1}, 2, 0
		}, six, ""},
		{"no packets", func(r *rawEvent) { r.packets = 0 }, Event{}, "0 packets"},
		{"after the end of time", func(r *rawEvent) { r.time = 1 << 63 }, Event{}, "37 packets at -"},
		{"no such version", func(r *rawEvent) { r.version = 5 }, Event{}, "of version 5"},
		{"no IPv4 address", func(r *rawEvent) { r.source[1] |= 1 << 32 }, Event{}, "source 0:1c0000201 of version 4"},
		{"nor this", func(r *rawEvent) { r.source[0] = 1 }, Event{}, "source 1:c0000201 of version 4"},
		{"no such verdict", func(r *rawEvent) { r.verdict = 3 }, Event{}, "verdict 3"},
		{"no such cause", func(r *rawEvent) { r.cause = 5 }, Event{}, "cause 5"},
		{"no such hook", func(r *rawEvent) { r.hook = 3 }, Event{}, "hook 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := aDrop()
			c.change(&r)
			got, err := decodeEvent(r.record())
			if c.fault != "" {
				if !errors.Is(err, ErrEvent) || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("got %v, want %q", err, c.fault)
				}
				return
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
		})
	}
}

func TestDecodeEventLength(t *testing.T) {
	b := append(aDrop().record(), make([]byte, 8)...)
	for n := range len(b) + 1 {
		if _, err := decodeEvent(b[:n]); (err == nil) != (n == eventSize) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(aDrop().record())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEvent(b)
		if (err == nil) != e.Source.IsValid() {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func TestDecodeEventAllocatesNothing(t *testing.T) {
	b := aDrop().record()
	if n := testing.AllocsPerRun(1000, func() { _, _ = decodeEvent(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// emitter stands for weir's programs: it has their maps, and emits what it is told to.
type emitter struct {
	t        *testing.T
	dir      *StateDir
	runDir   string
	ring     *ebpf.Map
	control  *ebpf.Map
	wakeup   int32                 // flag of bpf_ringbuf_output
	programs map[int]*ebpf.Program // by the length of what they emit
}

func newEmitter(t *testing.T) *emitter {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	path := fmt.Sprintf("%s/weir-test-%d-%s", bpffsMount, os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
	d, err := Lock(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	e := &emitter{t: t, dir: d, runDir: filepath.Join(t.TempDir(), "run"), programs: map[int]*ebpf.Program{}}
	t.Cleanup(func() {
		if err := errors.Join(os.RemoveAll(path), d.Close()); err != nil {
			t.Error(err)
		}
		for _, p := range e.programs {
			p.Close()
		}
	})
	e.ring = e.newMap("events", &ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	e.control = e.newMap("control", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	return e
}

func (e *emitter) newMap(pin string, spec *ebpf.MapSpec) *ebpf.Map {
	e.t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { m.Close() })
	if err := m.Pin(e.dir.pin(pin)); err != nil {
		e.t.Fatal(err)
	}
	return m
}

// program emits the first size bytes of the frame that it is given.
func (e *emitter) program(size int) *ebpf.Program {
	e.t.Helper()
	if p := e.programs[size]; p != nil {
		return p
	}
	buffer := -int32(size)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, 0),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, buffer),
			asm.Mov.Imm(asm.R4, int32(size)),
			asm.FnSkbLoadBytes.Call(),
			asm.JNE.Imm(asm.R0, 0, "end"),
			asm.LoadMapPtr(asm.R1, e.ring.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, buffer),
			asm.Mov.Imm(asm.R3, int32(size)),
			asm.Mov.Imm(asm.R4, e.wakeup),
			asm.FnRingbufOutput.Call(),
			asm.Return().WithSymbol("end"),
		},
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.programs[size] = p
	return p
}

// emit lets a program in the kernel write a record; it tells whether there was room for it.
func (e *emitter) emit(record []byte) bool {
	e.t.Helper()
	result, err := e.program(len(record)).Run(&ebpf.RunOptions{Data: record})
	if err != nil {
		e.t.Fatal(err)
	}
	return result == 0
}

// until reads the control page as the programs do.
func (e *emitter) until() time.Duration {
	e.t.Helper()
	var value [2]uint64
	if err := e.control.Lookup(uint32(0), &value); err != nil {
		e.t.Fatal(err)
	}
	return time.Duration(value[0])
}

// await looks until the kernel shows what the test waits for.
func (e *emitter) await(what string, seen func() bool) {
	e.t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.After(eventsTestLimit)
	for !seen() {
		select {
		case <-poll.C:
		case <-deadline:
			e.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// listen runs the listener until the test has what it wants.
func (e *emitter) listen(events *Events) (got <-chan Event, stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(e.t.Context())
	all, done := make(chan Event, 1000), make(chan error, 1)
	go func() { done <- events.Run(ctx, func(event Event) { all <- event }) }()
	e.await("somebody to listen", func() bool { return e.until() != 0 })
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
		r.time, r.packets = uint64(Monotonic()), packets
		return r.record()
	}
	events, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	e.emit(now(999)) // before anybody listens: left over
	got, stop := e.listen(events)
	for i := uint64(1); i <= 300; i++ { // the ring has room for 63
		if !e.emit(now(i)) {
			t.Fatalf("event %d found no room", i)
		}
		if event := e.next(got); event.Packets != i || event.Source != netip.MustParseAddr("192.0.2.1") {
			t.Fatalf("got %+v, want number %d", event, i)
		}
	}
	e.emit(now(1)[:48])
	e.emit(append(now(1), make([]byte, 8)...))
	e.emit(rawEvent{version: 9, packets: 1, time: uint64(Monotonic())}.record())
	e.emit(now(301))
	if event := e.next(got); event.Packets != 301 || events.Lost() != 3 {
		t.Errorf("got %+v, and %d lost, want number 301 and 3", event, events.Lost())
	}
	stop()

	// Again, on the same ring.
	got, stop = e.listen(events)
	e.emit(now(302))
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
	if err := e.control.Put(uint32(0), [2]uint64{0, 0x0000000700000005}); err != nil {
		t.Fatal(err)
	}
	events, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	if e.until() != 0 {
		t.Error("the programs emit though nobody listens yet")
	}
	_, stop := e.listen(events)
	first := e.until()
	if ahead := first - Monotonic(); ahead <= 0 || ahead > eventsAhead {
		t.Errorf("the programs emit for %v, want %v at most", ahead, eventsAhead)
	}
	e.await("it to be renewed", func() bool { return e.until() != first })
	stop()
	var value [2]uint64
	if err := e.control.Lookup(uint32(0), &value); err != nil || value != [2]uint64{0, 0x0000000700000005} {
		t.Errorf("control is %x, %v; want nobody to listen, and the rest as it was", value, err)
	}
	if err := events.Close(); err != nil {
		t.Error(err)
	}
}

// The listener finds what a program wrote without waking anybody, and makes room in a ring that is full.
func TestEventsFullRing(t *testing.T) {
	e := newEmitter(t)
	e.wakeup = unix.BPF_RB_NO_WAKEUP
	events, err := e.dir.OpenEvents(e.runDir)
	if err != nil {
		t.Fatal(err)
	}
	r := aDrop()
	r.time = uint64(Monotonic() + time.Hour)
	room := 0
	for e.emit(r.record()) {
		room++
	}
	if room != os.Getpagesize()/(eventSize+8)-1 {
		t.Errorf("the ring had room for %d", room)
	}
	got, stop := e.listen(events)
	for range room {
		e.next(got)
	}
	if !e.emit(r.record()) {
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
				e.newMap("table", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
			}
			if _, err := e.dir.OpenEvents(e.runDir); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Package eventtest stands for weir's programs where a test is about their events alone: it has the two maps that
// events need, pinned where a listener looks for them, and a program in the kernel that writes what it is told to.
package eventtest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Event is struct event of types.h: the same fields in the same order.
type Event struct {
	Source                     [2]uint64
	Time, Packets, Bytes       uint64
	Interface                  uint32
	Port                       uint16
	Version, Protocol          uint8
	Verdict, Slot, Cause, Hook uint8
	Pad                        [4]uint8
}

// Record is the event as a program writes it.
func (e Event) Record() []byte {
	b, err := binary.Append(nil, binary.NativeEndian, e)
	if err != nil {
		panic(err) // it takes a field without a fixed size
	}
	return b
}

// Emitter is the maps and the program.
type Emitter struct {
	// NoWakeup lets the program wake nobody who waits for events.
	NoWakeup bool

	t             testing.TB
	dir           string
	ring, control *ebpf.Map
	programs      map[int]*ebpf.Program // by the length of what they emit
}

// New pins the maps in a state directory, which has to be there. They have gone when the test ends.
func New(t testing.TB, stateDir string) *Emitter {
	t.Helper()
	e := &Emitter{t: t, dir: stateDir, programs: map[int]*ebpf.Program{}}
	e.ring = e.NewMap("events", &ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	e.control = e.NewMap("control", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	t.Cleanup(func() {
		for _, p := range e.programs {
			p.Close()
		}
	})
	return e
}

// NewMap pins a map beside the others.
func (e *Emitter) NewMap(pin string, spec *ebpf.MapSpec) *ebpf.Map {
	e.t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = os.Remove(filepath.Join(e.dir, pin)) // unless the test has removed it
		m.Close()
	})
	if err := m.Pin(filepath.Join(e.dir, pin)); err != nil {
		e.t.Fatal(err)
	}
	return m
}

// Emit lets the program write a record of any length; it tells whether the ring had room for it.
func (e *Emitter) Emit(record []byte) bool {
	e.t.Helper()
	result, err := e.program(len(record)).Run(&ebpf.RunOptions{Data: record})
	if err != nil {
		e.t.Fatal(err)
	}
	return result == 0
}

// Until reads the control page as the programs do: until when somebody listens.
func (e *Emitter) Until() time.Duration {
	e.t.Helper()
	return time.Duration(e.Control()[0])
}

// Control is the whole page.
func (e *Emitter) Control() (words [2]uint64) {
	e.t.Helper()
	if err := e.control.Lookup(uint32(0), &words); err != nil {
		e.t.Fatal(err)
	}
	return words
}

// SetControl writes the whole page.
func (e *Emitter) SetControl(words [2]uint64) {
	e.t.Helper()
	if err := e.control.Put(uint32(0), words); err != nil {
		e.t.Fatal(err)
	}
}

// Await looks until the test sees what it waits for.
func (e *Emitter) Await(what string, seen func() bool) {
	e.t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.NewTimer(10 * time.Second) // far above what it takes
	defer deadline.Stop()
	for !seen() {
		select {
		case <-poll.C:
		case <-deadline.C:
			e.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// program emits the first size bytes of the frame that it is given.
func (e *Emitter) program(size int) *ebpf.Program {
	e.t.Helper()
	if p := e.programs[size]; p != nil {
		return p
	}
	flags := int32(0)
	if e.NoWakeup {
		flags = unix.BPF_RB_NO_WAKEUP
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
			asm.Mov.Imm(asm.R4, flags),
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

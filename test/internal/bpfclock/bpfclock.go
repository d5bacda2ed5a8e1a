// Package bpfclock puts a test's clocks into a BPF program, in place of the kernel's. The program stays what is
// shipped but for its calls of bpf_ktime_get_ns, bpf_ktime_get_coarse_ns and bpf_jiffies64: each becomes a call of a
// function of this package, which returns what the test set, or the kernel's own clock, and takes down what it returned.
package bpfclock

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Reading is what the clocks say. 0 is what no clock says: it stands for the kernel's own where a clock is set, and
// where it was read for one that was not.
type Reading struct {
	Exact, Coarse uint64 // ns
	Jiffies       uint64
}

// page is what the program and the test share.
type page struct {
	set  [kinds]atomic.Uint64 // what the clocks are to return; 0: the kernel's own
	read [kinds]atomic.Uint64 // what they returned last
	runs atomic.Uint64        // recorded ones
}

// The clocks, in the order of Reading.
const (
	exact = iota
	coarse
	jiffies
	kinds
)

// clocks are the helpers that are replaced, and by what.
var clocks = [...]struct {
	helper asm.BuiltinFunc
	symbol string
}{
	exact:   {asm.FnKtimeGetNs, "injected_exact"},
	coarse:  {asm.FnKtimeGetCoarseNs, "injected_coarse"},
	jiffies: {asm.FnJiffies64, "injected_jiffies"},
}

// Clock has the clocks of the programs that it was injected into. They start as the kernel's own.
type Clock struct {
	shared *ebpf.Map
	memory []byte
	page   *page

	records *ebpf.Map // of recorded runs; nil without
	runs    []byte
}

// New makes a clock. It must be closed.
func New() (*Clock, error) {
	m, memory, err := mapped("test_clock", uint32(unsafe.Sizeof(page{})), 1)
	if err != nil {
		return nil, err
	}
	return &Clock{shared: m, memory: memory, page: (*page)(unsafe.Pointer(&memory[0]))}, nil
}

// mapped makes an array and maps it into this process.
func mapped(name string, size, entries uint32) (*ebpf.Map, []byte, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: size, MaxEntries: entries, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("create the map %s: %w", name, err)
	}
	memory, err := unix.Mmap(m.FD(), 0, int(size)*int(entries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("map %s into this process: %w", name, err), m.Close())
	}
	return m, memory, nil
}

// Close frees the clock. Programs that it is in keep it as it was.
func (c *Clock) Close() error {
	errs := []error{unix.Munmap(c.memory), c.shared.Close()}
	if c.records != nil {
		errs = append(errs, unix.Munmap(c.runs), c.records.Close())
	}
	return errors.Join(errs...)
}

// Jiffy is how long one takes, on this machine.
func Jiffy() (time.Duration, error) {
	var tick unix.Timespec
	err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick)
	return time.Duration(tick.Nano()), err
}

// Set sets the clocks.
func (c *Clock) Set(r Reading) {
	c.page.set[exact].Store(r.Exact)
	c.page.set[coarse].Store(r.Coarse)
	c.page.set[jiffies].Store(r.Jiffies)
}

// Read tells what the clocks have said since it was last asked.
func (c *Clock) Read() Reading {
	return Reading{c.page.read[exact].Swap(0), c.page.read[coarse].Swap(0), c.page.read[jiffies].Swap(0)}
}

// Inject makes a program, not yet loaded, read this clock, and returns how many calls it replaced.
func (c *Clock) Inject(p *ebpf.ProgramSpec) (replaced int) {
	for i := range p.Instructions {
		for _, clock := range clocks {
			if call := &p.Instructions[i]; call.IsBuiltinCall() && call.Constant == int64(clock.helper) {
				symbol, source := call.Symbol(), call.Source()
				*call = asm.Call.Label(clock.symbol).WithSymbol(symbol).WithSource(source)
				replaced++
			}
		}
	}
	for kind := range clocks {
		function := c.function(kind)
		function[0] = function[0].WithSource(p.Instructions[0].Source()) // some line: the kernel wants one
		p.Instructions = append(p.Instructions, function...)
	}
	return replaced
}

// function: if (!(now = page.set[kind])) now = helper(); page.read[kind] = now; return now.
func (c *Clock) function(kind int) asm.Instructions {
	clock := clocks[kind]
	set := uint32(unsafe.Offsetof(page{}.set)) + 8*uint32(kind)
	read := uint32(unsafe.Offsetof(page{}.read)) + 8*uint32(kind)
	return asm.Instructions{
		first(asm.LoadMapValue(asm.R1, c.shared.FD(), set), clock.symbol),
		asm.LoadMem(asm.R0, asm.R1, 0, asm.DWord),
		asm.JNE.Imm(asm.R0, 0, clock.symbol+"_set"),
		clock.helper.Call(),
		asm.LoadMapValue(asm.R1, c.shared.FD(), read).WithSymbol(clock.symbol + "_set"),
		asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord),
		asm.Return(),
	}
}

// first makes an instruction a function's first. The kernel wants each function described once one of them is.
func first(i asm.Instruction, symbol string) asm.Instruction {
	u64 := &btf.Int{Name: "unsigned long long", Size: 8}
	return btf.WithFuncMetadata(i.WithSymbol(symbol), &btf.Func{
		Name: symbol, Type: &btf.FuncProto{Return: u64}, Linkage: btf.StaticFunc,
	})
}

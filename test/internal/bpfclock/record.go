package bpfclock

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// MaxRuns is how many runs can be recorded.
const MaxRuns = 1 << 20

// Run is one run of a program that is recorded.
type Run struct {
	Reading        // what the clocks said, of those that the program asked
	Verdict uint64 // what the program returned
}

// Record makes a program that this clock is injected into take down each of its runs. They must be on one CPU. Tracing from
// outside, by fexit, is not allowed everywhere.
func (c *Clock) Record(p *ebpf.ProgramSpec) (err error) {
	if c.records, c.runs, err = mapped("test_runs", uint32(unsafe.Sizeof(Run{})), MaxRuns); err != nil {
		return err
	}
	const shipped = "shipped"
	wrap(p, shipped, c.wrapper(shipped))
	return nil
}

// wrapper: page.read = 0; verdict = function(); records[page.runs++] = {page.read, verdict}; return verdict.
func (c *Clock) wrapper(function string) asm.Instructions {
	read, runs := int16(unsafe.Offsetof(page{}.read)), int16(unsafe.Offsetof(page{}.runs))
	before := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, c.shared.FD(), 0),
		asm.Mov.Imm(asm.R0, 0),
	}
	var copied asm.Instructions
	for kind := range int16(kinds) {
		before = append(before, asm.StoreMem(asm.R7, read+8*kind, asm.R0, asm.DWord))
		copied = append(copied, asm.LoadMem(asm.R1, asm.R7, read+8*kind, asm.DWord), asm.StoreMem(asm.R0, 8*kind, asm.R1, asm.DWord))
	}
	return slices.Concat(
		before,
		asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6), asm.Call.Label(function), asm.Mov.Reg(asm.R8, asm.R0),
			asm.LoadMem(asm.R9, asm.R7, runs, asm.DWord), asm.StoreMem(asm.R10, -4, asm.R9, asm.Word),
			asm.Add.Imm(asm.R9, 1), asm.StoreMem(asm.R7, runs, asm.R9, asm.DWord),
			asm.LoadMapPtr(asm.R1, c.records.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "recorded"),
		},
		copied,
		asm.Instructions{
			asm.StoreMem(asm.R0, 8*kinds, asm.R8, asm.DWord),
			asm.Mov.Reg(asm.R0, asm.R8).WithSymbol("recorded"), asm.Return(),
		},
	)
}

// Runs are the recorded runs, in their order. It fails if there were more than fit.
func (c *Clock) Runs() ([]Run, error) {
	n := c.page.runs.Load()
	if n > MaxRuns {
		return nil, fmt.Errorf("%d runs were to be recorded, there is room for %d", n, MaxRuns)
	}
	return slices.Clone(unsafe.Slice((*Run)(unsafe.Pointer(&c.runs[0])), n)), nil
}

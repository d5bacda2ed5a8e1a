package bpfclock

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// The runs that a trace has room for: of each CPU, and of how many CPUs.
const (
	MaxTraced     = 1 << 19
	maxTracedCPUs = 64
)

// Traced is one run of a traced program: it decided between entry and exit, in ns of the kernel's own clock.
type Traced struct {
	Entry, Exit uint64
	Verdict     uint64 // what the program returned
}

// Trace takes down every run of a program, on each CPU by itself.
type Trace struct {
	counts, runs             *ebpf.Map
	countsMemory, runsMemory []byte
	cpus                     int
}

// NewTrace makes room for the runs of so many CPUs, from 0 on. It must be closed.
func NewTrace(cpus int) (_ *Trace, err error) {
	if cpus > maxTracedCPUs {
		return nil, fmt.Errorf("a trace has room for %d CPUs, not for %d", maxTracedCPUs, cpus)
	}
	t := &Trace{cpus: cpus}
	if t.counts, t.countsMemory, err = mapped("trace_counts", 8*maxTracedCPUs, 1); err != nil {
		return nil, err
	}
	if t.runs, t.runsMemory, err = mapped("trace_runs", uint32(unsafe.Sizeof(Traced{})), uint32(cpus*MaxTraced)); err != nil {
		return nil, errors.Join(err, unix.Munmap(t.countsMemory), t.counts.Close())
	}
	return t, nil
}

// Close frees what was traced.
func (t *Trace) Close() error {
	return errors.Join(unix.Munmap(t.countsMemory), t.counts.Close(), unix.Munmap(t.runsMemory), t.runs.Close())
}

// Wrap makes a program, not yet loaded, a function of one that takes down its runs.
func (t *Trace) Wrap(p *ebpf.ProgramSpec) {
	const shipped = "traced"
	wrap(p, shipped, t.wrapper(shipped))
}

// wrap makes a program a function of that name, and puts another before it that takes its place.
func wrap(p *ebpf.ProgramSpec, name string, wrapper asm.Instructions) {
	entry := p.Instructions[0]
	wrapper[0] = btf.WithFuncMetadata(wrapper[0].WithSymbol(entry.Symbol()).WithSource(entry.Source()), btf.FuncMetadata(&entry))
	p.Instructions[0] = entry.WithSymbol(name)
	p.Instructions = append(wrapper, p.Instructions...)
}

// wrapper: entry = now; verdict = function(); runs[cpu * MaxTraced + counts[cpu]++] = {entry, now, verdict}; return verdict.
// What is beyond a CPU's room lands in the next one's, or nowhere; Runs then fails.
func (t *Trace) wrapper(function string) asm.Instructions {
	return slices.Concat(
		asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.FnKtimeGetNs.Call(), asm.StoreMem(asm.R10, -16, asm.R0, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.R6), asm.Call.Label(function), asm.Mov.Reg(asm.R8, asm.R0),
			asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R9, asm.R0),
			asm.FnGetSmpProcessorId.Call(), asm.And.Imm(asm.R0, maxTracedCPUs-1),
			asm.Mov.Reg(asm.R7, asm.R0), asm.LSh.Imm(asm.R0, 3),
			asm.LoadMapValue(asm.R1, t.counts.FD(), 0), asm.Add.Reg(asm.R1, asm.R0),
			asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
			asm.Mov.Reg(asm.R3, asm.R2), asm.Add.Imm(asm.R3, 1), asm.StoreMem(asm.R1, 0, asm.R3, asm.DWord),
			asm.Mul.Imm(asm.R7, MaxTraced), asm.Add.Reg(asm.R7, asm.R2), asm.StoreMem(asm.R10, -4, asm.R7, asm.Word),
			asm.LoadMapPtr(asm.R1, t.runs.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "traced_out"),
		},
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.R10, -16, asm.DWord), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.StoreMem(asm.R0, 8, asm.R9, asm.DWord), asm.StoreMem(asm.R0, 16, asm.R8, asm.DWord),
			asm.Mov.Reg(asm.R0, asm.R8).WithSymbol("traced_out"), asm.Return(),
		},
	)
}

// Runs are the runs of each CPU, in their order there. It fails if there were more than fit.
func (t *Trace) Runs() ([][]Traced, error) {
	counts := unsafe.Slice((*uint64)(unsafe.Pointer(&t.countsMemory[0])), maxTracedCPUs)
	all := unsafe.Slice((*Traced)(unsafe.Pointer(&t.runsMemory[0])), t.cpus*MaxTraced)
	runs := make([][]Traced, t.cpus)
	for cpu := range runs {
		n := counts[cpu]
		if n > MaxTraced {
			return nil, fmt.Errorf("CPU %d ran the program %d times, there is room for %d", cpu, n, MaxTraced)
		}
		runs[cpu] = slices.Clone(all[cpu*MaxTraced:][:n])
	}
	return runs, nil
}

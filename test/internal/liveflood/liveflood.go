// Package liveflood sends frames of invented IPv4 sources from one end of a cable as fast as the machine can: the kernel runs
// an XDP program on a frame over and over (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18), which changes its source and hands it to
// the cable. No socket and no buffer is in the way, as in a driver that receives.
package liveflood

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
)

// source is where a frame without VLAN tags has its IPv4 source.
const source = 14 + 12

// Flood sends from a host. It must be closed.
type Flood struct {
	from    *lab.Host
	frame   []byte
	program *ebpf.Program
}

// New makes a flood of a frame, which must be IPv4 without VLAN tags. Its header's checksum becomes wrong: it is for a
// receiver that does not come to look at it.
func New(from *lab.Host, frame []byte) (*Flood, error) {
	index, err := from.Index()
	if err != nil {
		return nil, err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "live_flood", Type: ebpf.XDP, License: "MIT", Instructions: sender(index)})
	if err != nil {
		return nil, fmt.Errorf("load the sender of a flood: %w (needs root, or CAP_BPF and CAP_NET_ADMIN)", err)
	}
	return &Flood{from: from, frame: frame, program: program}, nil
}

// sender: source = random(); return redirect(index).
func sender(index int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R8, asm.R1, 4, asm.Word), // its end
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, source+4), asm.JGT.Reg(asm.R2, asm.R8, "short"),
		asm.FnGetPrandomU32.Call(), asm.StoreMem(asm.R7, source, asm.R0, asm.Word),
		asm.Mov.Imm(asm.R1, int32(index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("short"), asm.Return(), // XDP_DROP
	}
}

// Send sends so many frames on a CPU, and returns when the last is on the cable. How many the other end took is for that end
// to say.
func (f *Flood) Send(cpu int, frames uint32) error {
	// The kernel looks for the interface in the namespace of the thread.
	err := f.from.Do(func() error {
		return onCPU(cpu, func() error {
			_, err := f.program.Run(&ebpf.RunOptions{Data: f.frame, Repeat: frames, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES})
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("send %d live frames: %w", frames, err)
	}
	return nil
}

// onCPU runs fn, whose thread is locked, on a CPU.
func onCPU(cpu int, fn func() error) (err error) {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read the thread's CPUs: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("move to CPU %d: %w", cpu, err)
	}
	defer func() { err = errors.Join(err, unix.SchedSetaffinity(0, &before)) }()
	return fn()
}

// Close unloads the sender.
func (f *Flood) Close() error { return f.program.Close() }

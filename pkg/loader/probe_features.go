package loader

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// ProbeTC asks for programs of type SCHED_CLS, which the TC hooks run.
func ProbeTC() error { return features.HaveProgramType(ebpf.SchedCLS) }

// ProbeRingBuffer asks for the map that events come through.
func ProbeRingBuffer() error { return features.HaveMapType(ebpf.RingBuf) }

// ProbeTrie asks for the map that prefixes are looked up in.
func ProbeTrie() error { return features.HaveMapType(ebpf.LPMTrie) }

// ProbePerCPUArray asks for the map that counters, and the slots before the table, are in.
func ProbePerCPUArray() error { return features.HaveMapType(ebpf.PerCPUArray) }

// ProbeCoarseClock asks XDP programs for the clock that costs a memory access.
func ProbeCoarseClock() error { return features.HaveProgramHelper(ebpf.XDP, asm.FnKtimeGetCoarseNs) }

// ProbePacing asks TC programs for the way to say when a packet is to leave.
func ProbePacing() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, 0),
			asm.StoreMem(asm.R1, skbDeparture, asm.R0, asm.DWord),
			asm.Return(),
		},
	})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	if err != nil {
		return err
	}
	return p.Close()
}

// skbDeparture is where tstamp is in struct __sk_buff of linux/bpf.h.
const skbDeparture = 152

// ProbeXDPLink asks for links that hold an XDP program on an interface, and can be pinned. It asks for
// native mode on the loopback interface, which has no driver that could say yes.
func ProbeXDPLink() error {
	return probeLink(ebpf.XDP, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: p, Interface: loopback, Flags: link.XDPDriverMode})
	})
}

// ProbeTCX asks for links that hold a TC program on an interface, beside those of others. It asks for one
// on an interface that does not exist.
func ProbeTCX() error {
	return probeLink(ebpf.SchedCLS, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Program: p, Attach: ebpf.AttachTCXIngress, Interface: noInterface})
	})
}

const (
	loopback    = 1             // in every network namespace
	noInterface = math.MaxInt32 // an index that no interface has
)

// probeLink attaches to where nothing can be attached to: a kernel that knows such links says so, one
// that does not finds fault with the question.
func probeLink(kind ebpf.ProgramType, attach func(*ebpf.Program) (link.Link, error)) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	l, err := attach(p)
	switch {
	case err == nil:
		return errors.Join(errors.New("the probe was attached, and is detached again"), l.Close())
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EBUSY):
		return nil
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return err
}

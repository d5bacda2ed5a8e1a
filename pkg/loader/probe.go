package loader

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The probes ask the running kernel for what weir's programs need, and leave nothing in it. nil means
// that it has it, an error that wraps [ebpf.ErrNotSupported] that it has not; any other error that
// it could not be asked, most often for want of privileges.

// ProbeXDP asks for programs of type XDP.
func ProbeXDP() error { return features.HaveProgramType(ebpf.XDP) }

// ProbeMappable asks for arrays that user space can map.
func ProbeMappable() error { return features.HaveMapFlag(features.BPF_F_MMAPABLE) }

// ProbeMultiBuffer asks for packets in several buffers. weir does without.
func ProbeMultiBuffer() error { return features.HaveProgramHelper(ebpf.XDP, asm.FnXdpGetBuffLen) }

// ProbeAtomics asks for the compare-and-swap that buckets are charged with, by loading a program
// which does one on its stack.
func ProbeAtomics() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, 0),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreMem(asm.R10, -8, asm.R0, asm.DWord),
			asm.CmpXchg.Mem(asm.R10, asm.R1, asm.DWord, -8),
			asm.Mov.Imm(asm.R0, xdpPass),
			asm.Return(),
		},
	})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: compare-and-swap: %w", ebpf.ErrNotSupported, err)
	}
	if err != nil {
		return err
	}
	return p.Close()
}

const xdpPass = 2 // XDP_PASS

// ProbeJIT tells whether the kernel compiles programs; one that interprets them is several times slower.
func ProbeJIT() (compiles bool, err error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		return false, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return false, err
	}
	size, err := info.JitedSize()
	return size > 0, err
}

// ProbeProgram loads weir's own program with two policies of unlike kinds, over a table of one set.
// It is the only probe that asks the verifier what counts in the end.
func ProbeProgram() error {
	packets := policy.Policy{Name: "packets", Scope: policy.ScopePerIP, Limit: 1000, Window: time.Second}.WithDefaults()
	bytes := packets
	bytes.Name, bytes.Unit, bytes.Burst, bytes.Mode = "bytes", policy.UnitBytes, 1<<20, policy.ModeShadow
	s, err := LoadStandalone(StandaloneOptions{Policies: []policy.Policy{packets, bytes}, TableEntries: bucket.SetWays})
	if err != nil {
		return err
	}
	return s.Close()
}

// Locate tells where this process reaches a state directory: at its path or, if that is on no bpf
// file system here, through the mounts of a process that this one descends from. It fails with
// [ErrNoBPFFS]. The directory need not exist.
func Locate(path string) (string, error) { return locate(path) }

// LockHolder names the process that is changing the state directory, or holds it; "" if there is none.
func (d *StateDir) LockHolder() string { return strings.TrimPrefix(lockHolder(d.path), " by ") }

// OwnNamespace is the inode of this thread's network namespace, as [Attachment] has it.
func OwnNamespace() (uint64, error) { return netNamespace() }

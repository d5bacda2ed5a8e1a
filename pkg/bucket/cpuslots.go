package bucket

import (
	"fmt"
	"iter"
	"sync/atomic"
	"unsafe"
)

const slotSize = 32

// kernelSlot has the layout of struct slot. The kernel changes it without an atomic, as it is one CPU's own.
type kernelSlot struct {
	hash       atomic.Uint64
	denyUntil  atomic.Uint64
	rateID     atomic.Uint64
	credit     atomic.Uint32
	denyTokens atomic.Uint32
}

// CPUSlots are the slots of all CPUs that the kernel has, over the memory that it has them in.
type CPUSlots struct {
	cpus []([SlotCount]kernelSlot)
	mem  []byte // keeps a heap of them alive
}

// NewCPUSlots lays slots over mem, which must have those of whole CPUs and start at a multiple of 8.
func NewCPUSlots(mem []byte) (*CPUSlots, error) {
	n := len(mem) / (SlotCount * slotSize)
	start := unsafe.Pointer(unsafe.SliceData(mem))
	if n == 0 || len(mem) != n*SlotCount*slotSize || uintptr(start)%8 != 0 {
		return nil, fmt.Errorf("%w: %d bytes at %p, want the slots of whole CPUs, %d bytes each", ErrMemory, len(mem), start, SlotCount*slotSize)
	}
	return &CPUSlots{cpus: unsafe.Slice((*[SlotCount]kernelSlot)(start), n), mem: mem}, nil
}

// Leased is how many tokens CPUs have taken from the bucket that hash names, and not spent yet.
func (s *CPUSlots) Leased(hash uint64, r *Rate) (tokens uint64) {
	for cpu := range s.cpus {
		slot := &s.cpus[cpu][SlotIndex(hash)]
		if slot.hash.Load() == hash && slot.rateID.Load() == r.ID {
			tokens += uint64(slot.credit.Load())
		}
	}
	return tokens
}

// Forget makes every CPU ask the table about the bucket that hash names. A CPU that charges it at the same
// moment may keep what it leased.
func (s *CPUSlots) Forget(hash uint64) {
	for cpu := range s.cpus {
		slot := &s.cpus[cpu][SlotIndex(hash)]
		if slot.hash.Load() == hash {
			slot.rateID.Store(0) // it is nobody's now; what credit it has is gone
			slot.credit.Store(0)
		}
	}
}

// Ask makes every CPU that remembers a denial of the bucket that hash names ask the table again. What it leased it
// keeps. A slot that is given to another bucket at the same moment loses no more than its denial.
func (s *CPUSlots) Ask(hash uint64) {
	for cpu := range s.cpus {
		slot := &s.cpus[cpu][SlotIndex(hash)]
		if slot.hash.Load() == hash {
			slot.denyUntil.Store(0)
		}
	}
}

// SlotState is a copy of a slot, without the hash of its bucket.
type SlotState struct {
	CPU    int
	Credit uint32 // tokens that the CPU took from the bucket and has not spent
	// Denied tells that its last answer was a denial. How long that holds only the kernel's clocks can tell.
	Denied     bool
	DenyTokens uint32 // that were denied: fewer may pass
}

// All yields a copy of every slot that is in use, CPU by CPU. They may change meanwhile.
func (s *CPUSlots) All() iter.Seq[SlotState] {
	return func(yield func(SlotState) bool) {
		for cpu := range s.cpus {
			for i := range s.cpus[cpu] {
				slot := &s.cpus[cpu][i]
				if slot.rateID.Load() == 0 {
					continue
				}
				state := SlotState{CPU: cpu, Credit: slot.credit.Load(), Denied: slot.denyUntil.Load() != 0}
				if state.Denied {
					state.DenyTokens = slot.denyTokens.Load()
				}
				if !yield(state) {
					return
				}
			}
		}
	}
}

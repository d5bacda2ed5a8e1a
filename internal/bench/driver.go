package bench

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// XDP's actions, from linux/bpf.h.
const (
	xdpAborted = 0
	xdpDrop    = 1
)

// driver gives packets their sources and hands them to one program.
type driver struct {
	objects driverObjects
	entry   *ebpf.Program // where a run begins
	frame   []byte
}

// newDriver makes a driver of 2^n sources for the program; nil: for the one that only drops.
func newDriver(sources uint64, program *ebpf.Program) (_ *driver, err error) {
	spec, err := loadDriver()
	if err != nil {
		return nil, err
	}
	if _, err := adaptToKernel(spec); err != nil {
		return nil, err
	}
	if err := spec.Variables[driverVarSourceMask].Set(sourceMask(sources)); err != nil {
		return nil, fmt.Errorf("set the driver's mask: %w", err)
	}
	d := &driver{frame: newFrame()}
	if err := spec.LoadAndAssign(&d.objects, nil); err != nil {
		return nil, fmt.Errorf("load the driver: %w (needs root, or CAP_BPF and CAP_NET_ADMIN)", err)
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if program == nil {
		program = d.objects.Bare
	}
	if sources == 1 {
		d.entry = program // the frame has its source already: no need to pay for a generator
		return d, nil
	}
	d.entry = d.objects.Drive
	if err := d.objects.Contender.Put(uint32(0), program); err != nil {
		return nil, fmt.Errorf("hand the program to the driver: %w", err)
	}
	return d, d.seed()
}

// seed starts each CPU's generator elsewhere, but the same in every run.
func (d *driver) seed() error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	seeds := make([]uint64, cpus)
	for i := range seeds {
		seeds[i] = uint64(i+1) * 0x9e3779b97f4a7c15 // any but 0
	}
	if err := d.objects.Seed.Put(uint32(0), seeds); err != nil {
		return fmt.Errorf("seed the driver: %w", err)
	}
	return nil
}

// run sends the packets from the CPU that the caller is on. It returns the mean in whole ns, as the kernel measures it, and
// what the program did with the last one.
func (d *driver) run(packets int) (perPacket time.Duration, action uint32, err error) {
	action, perPacket, err = d.entry.Benchmark(d.frame, packets, nil)
	if err == nil && action == xdpAborted {
		err = errors.New("the driver reached no program")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("run %d packets: %w", packets, err)
	}
	return perPacket, action, nil
}

// Close unloads the driver.
func (d *driver) Close() error { return d.objects.Close() }

// adaptToKernel does what the loader does with weir's own program: before Linux 5.18 no packet has several buffers, and no
// program may say that it can take one. It returns the value of the constant multi_buffer.
func adaptToKernel(spec *ebpf.CollectionSpec) (uint32, error) {
	err := features.HaveProgramHelper(ebpf.XDP, asm.FnXdpGetBuffLen)
	if err == nil {
		return 1, nil
	}
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return 0, fmt.Errorf("probe the kernel for multi-buffer XDP: %w (needs root, or CAP_BPF and CAP_NET_ADMIN)", err)
	}
	for _, p := range spec.Programs {
		p.Flags &^= unix.BPF_F_XDP_HAS_FRAGS
	}
	return 0, nil
}

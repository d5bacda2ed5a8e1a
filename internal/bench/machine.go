package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// describeMachine says where p was measured.
func describeMachine(p *ebpf.Program) (Machine, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Machine{}, fmt.Errorf("read the kernel's version: %w", err)
	}
	info, err := p.Info()
	if err != nil {
		return Machine{}, fmt.Errorf("read the program's description: %w", err)
	}
	size, err := info.JitedSize()
	return Machine{
		CPU:    cpuModel(),
		CPUs:   runtime.NumCPU(),
		Kernel: unix.ByteSliceToString(name.Release[:]),
		JIT:    err == nil && size > 0,
	}, nil
}

// cpuModel is the model's name where the kernel tells it (it does not on Arm), else the architecture.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

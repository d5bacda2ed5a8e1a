package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// memory of a machine, in MiB: the initramfs twice while it is unpacked, and a table of a million sources.
const memory = "2048"

// kernelArguments: a panic ends the machine. Two tests of the emulated clocks fail where the host has no time for it.
const kernelArguments = "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check"

// emulatorFault is in the console of a machine whose kernel met a breakpoint of its own that it had taken out before. The
// kernel patches itself while other CPUs run, and qemu's translation is now and then older than the patch.
const emulatorFault = "Oops: int3"

// boots is how often a machine is started at most, if it is the emulator that fails.
const boots = 3

// boot runs the machine to its end, and returns what it told. An error means that there was no machine.
func (m *machine) boot(ctx context.Context, img *image) (*report, error) {
	initramfs, err := img.initramfs(ctx, m)
	if err != nil {
		return nil, err
	}
	defer os.Remove(initramfs)
	for boot := 1; ; boot++ {
		r, err := m.bootOnce(ctx, initramfs)
		if err != nil || boot == boots || r.done || !bytes.Contains(r.console, []byte(emulatorFault)) {
			return r, err
		}
		fmt.Printf("kernel %s, %d CPUs: %q in the emulator; booting again\n", r.name(*m), m.CPUs, emulatorFault)
	}
}

func (m *machine) bootOnce(ctx context.Context, initramfs string) (*report, error) {
	console := initramfs + ".console"
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", strconv.Itoa(m.CPUs), "-m", memory,
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:"+console, "-serial", "stdio",
		"-kernel", filepath.Join(kernels, m.Kernel, "vmlinuz"), "-initrd", initramfs, "-append", kernelArguments)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (scripts/deps.sh installs qemu)", err)
	}
	r := newReport()
	r.read(events)
	err = cmd.Wait()
	r.took = time.Since(start)
	if ctx.Err() != nil {
		err = fmt.Errorf("stopped after %v: %w", r.took.Round(time.Second), context.Cause(ctx))
	}
	if err != nil {
		r.problem("%v", err)
	}
	if r.console, err = os.ReadFile(console); err != nil {
		return nil, errors.Join(err, errors.New("qemu wrote no console"))
	}
	return r, nil
}

package bench

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// errTooFewCPUs says that this process may not run on as many CPUs as a measurement needs.
var errTooFewCPUs = errors.New("too few CPUs")

// lastCPUs chooses n of the CPUs that this process may run on: the last ones, as interrupts and whatever was
// started first tend to be on the others.
func lastCPUs(n int) ([]int, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("read this process's CPU affinity: %w", err)
	}
	var cpus []int
	for cpu := len(allowed)*64 - 1; cpu >= 0 && len(cpus) < n; cpu-- {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) < n {
		return nil, fmt.Errorf("%w: %d needed, this process may use %d (see: taskset -p)", errTooFewCPUs, n, len(cpus))
	}
	return cpus, nil
}

// onEach calls f on all cpus at the same time, with its number from 0 on, and waits for all of them.
func onEach(cpus []int, f func(i int) error) error {
	var ready sync.WaitGroup
	ready.Add(len(cpus))
	var g errgroup.Group
	for i, cpu := range cpus {
		g.Go(func() error {
			// Never unlocked: the thread keeps its affinity, and ends with the goroutine.
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu)
			err := unix.SchedSetaffinity(0, &set)
			// What else runs on this CPU has to wait for the end of a turn, which comes within a second; later, the kernel takes 5 %
			// for it (sched_rt_runtime_us). Without CAP_SYS_NICE it does not wait, and the quartiles tell.
			_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
			ready.Done()
			if err != nil {
				return fmt.Errorf("pin a thread to CPU %d: %w", cpu, err)
			}
			ready.Wait()
			return f(i)
		})
	}
	return g.Wait()
}

package privilege

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrCgo says that the program is built with cgo: the Go runtime then does not know all of its
// threads, and each has capabilities of its own.
var ErrCgo = errors.New("a program built with cgo can't give up capabilities in all of its threads")

// Reduce gives up, in every thread and for good, all capabilities but those that [Needs] keeps, and the
// way to get any back by running a program. What the process does not have it does not gain. It fails
// with [ErrCgo], and does nothing, unless the program is built with CGO_ENABLED=0.
func Reduce() error { return reduce(kept()) }

// Drop is Reduce for a daemon that has nothing to do with the kernel: it keeps no capability.
func Drop() error { return reduce(0) }

func reduce(kept uint64) error {
	// First, as it is what must hold even if the rest fails: no program that is run gains anything.
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := dropBounding(kept); err != nil {
		return err
	}
	state, err := get()
	if err != nil {
		return err
	}
	keep := state.permitted & kept
	// Inheritable, and the ambient set with it, are for programs that are run: the daemon runs none.
	return set(capabilities{permitted: keep, effective: keep})
}

// dropBounding takes from the bounding set what is not kept. That takes CAP_SETPCAP; a service that was
// started with few capabilities lacks it, and no_new_privs serves the same end there.
func dropBounding(kept uint64) error {
	for number := range 64 {
		if kept&(1<<number) != 0 {
			continue
		}
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // beyond the last capability of this kernel
		}
		if err != nil {
			return fmt.Errorf("read the bounding set: %w", err)
		}
		if has == 0 {
			continue
		}
		err = prctl(unix.PR_CAPBSET_DROP, uintptr(number))
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", number, err)
		}
	}
	return nil
}

// capabilities are the sets of a thread, a bit for each capability.
type capabilities struct{ effective, permitted, inheritable uint64 }

// get reads the sets of the calling thread. All threads have the same as long as only Reduce changes
// them.
func get() (capabilities, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 has 64 bits in two halves, the low one first
	if err := unix.Capget(&header, &data[0]); err != nil {
		return capabilities{}, fmt.Errorf("read the capabilities: %w", err)
	}
	join := func(low, high uint32) uint64 { return uint64(high)<<32 | uint64(low) }
	return capabilities{
		effective:   join(data[0].Effective, data[1].Effective),
		permitted:   join(data[0].Permitted, data[1].Permitted),
		inheritable: join(data[0].Inheritable, data[1].Inheritable),
	}, nil
}

// set replaces the sets of every thread.
func set(c capabilities) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of the thread that calls
	var data [2]unix.CapUserData
	for i, shift := range []int{0, 32} {
		data[i] = unix.CapUserData{
			Effective:   uint32(c.effective >> shift),
			Permitted:   uint32(c.permitted >> shift),
			Inheritable: uint32(c.inheritable >> shift),
		}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if err := asError(errno); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}

// prctl is prctl(2) with one argument, in every thread.
func prctl(option int, arg uintptr) error {
	// The arguments that prctl does not use have to be 0.
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, uintptr(option), arg, 0, 0, 0, 0)
	return asError(errno)
}

func asError(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return fmt.Errorf("%w (build it with CGO_ENABLED=0)", ErrCgo)
	}
	return errno
}

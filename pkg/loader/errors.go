package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var (
	// ErrConflict says that another program has the place on the interface. weir never evicts one.
	ErrConflict = errors.New("another program is attached")
	// ErrNoNativeXDP says that the driver can't run XDP programs itself, or not as it is set up.
	ErrNoNativeXDP = errors.New("the driver refuses native XDP")
	// ErrNoTCX says that the kernel has no tcx links, which came with Linux 6.6.
	ErrNoTCX = errors.New("the kernel has no tcx links")
)

// explain adds the mend to what the kernel answered to a bpf system call.
func explain(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		// The last lines say what was refused; %+v of the error has the whole log.
		return fmt.Errorf("%w (the kernel's verifier refused the program: it needs CAP_PERFMON beside CAP_BPF, or this is a defect: please report it with the output of weir doctor, and this under --debug)", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w (not enough memory: lower table.entries, or raise the memory limit of the cgroup)", err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w (weir needs Linux 5.15 or later: weir doctor tells more)", err)
	}
	return err
}

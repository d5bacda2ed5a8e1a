package lab

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mend adds to an error of the kernel what its reader can do about it.
func mend(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (the lab needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW: run as root, in a container with --privileged)", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w (the kernel lacks veth: modprobe veth, or CONFIG_VETH)", err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w (/proc/sys is read-only, as in an unprivileged container)", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w (too many network namespaces: see sysctl user.max_net_namespaces)", err)
	}
	return err
}

package lab

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are what would make a frame on a veth differ from one on a wire: merging on receive, segments larger than
// the MTU, and checksums left for hardware that is not there.
//
// The last one matters most to a program on the XDP hook: between veths the kernel leaves a half-done checksum
// (CHECKSUM_PARTIAL) in the frame, and a program that verifies or incrementally updates it computes nonsense.
// Segmentation the kernel turns off by itself when an XDP program is attached natively to the other end, but not for TC
// nor for generic XDP.
var offloads = []struct {
	name    string
	command uint32
}{
	{"generic-receive-offload", unix.ETHTOOL_SGRO},
	{"generic-segmentation-offload", unix.ETHTOOL_SGSO},
	{"tcp-segmentation-offload", unix.ETHTOOL_STSO},
	{"tx-checksumming", unix.ETHTOOL_STXCSUM},
}

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ command, data uint32 }

// ethtoolRequest is struct ifreq with a pointer to the command; the kernel reads all of its 40 bytes.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// disableOffloads turns them all off.
func (n *Namespace) disableOffloads(name string) error {
	return n.ethtool(func(fd int) error {
		for _, o := range offloads {
			if err := ethtoolCall(fd, name, &ethtoolValue{command: o.command}); err != nil {
				return fmt.Errorf("disable %s: %w", o.name, err)
			}
		}
		return nil
	})
}

// errNoCarrier is the reason when a cable does not come up, which happens only if somebody else takes it down.
var errNoCarrier = errors.New("interface has no carrier")

// awaitCarrier makes the kernel finish what setting both ends up began. A veth has a carrier once its other end is up,
// but the kernel learns of it in a worker of its own (linkwatch), and until then the interface has a queueing discipline that
// drops everything and reports success. Asking for the link state does the worker's job at once.
func (n *Namespace) awaitCarrier(name string) error {
	return n.ethtool(func(fd int) error {
		link := &ethtoolValue{command: unix.ETHTOOL_GLINK}
		if err := ethtoolCall(fd, name, link); err != nil {
			return fmt.Errorf("read link state: %w", err)
		}
		if link.data == 0 {
			return errNoCarrier
		}
		return nil
	})
}

// ethtool calls fn with a socket of the namespace, through which ioctls find its interfaces.
func (n *Namespace) ethtool(fn func(fd int) error) error {
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket for ethtool: %w", err)
		}
		defer unix.Close(fd)
		return fn(fd)
	})
}

// ethtoolCall gives a command to the interface; the answer, if there is one, is in v.data.
func ethtoolCall(fd int, name string, v *ethtoolValue) error {
	r := &ethtoolRequest{data: unsafe.Pointer(v)}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(r)))
	if errno != 0 {
		return errno
	}
	return nil
}

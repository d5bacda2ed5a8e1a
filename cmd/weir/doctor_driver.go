package main

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// onePageMTU is what fits into a page of 4096 bytes beside what XDP drivers keep free in it: 256 bytes
// before the frame, 320 behind it, and the Ethernet header with two VLAN tags.
const onePageMTU = 4096 - 256 - 320 - 22

func linkDriver(l netlink.Link) finding {
	fd, err := ethtoolSocket()
	if err != nil {
		return good("driver not known")
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, l.Attrs().Name)
	if err != nil { // loopback has none
		return good("no driver")
	}
	return good("driver %s", unix.ByteSliceToString(info.Driver[:]))
}

// linkNative tells what the driver has of XDP, and whether that goes with the MTU.
func linkNative(l netlink.Link) finding {
	features, err := xdpFeatures(l.Attrs().Index)
	return judgeNative(features, err, l.Attrs().MTU)
}

func judgeNative(features uint64, err error, mtu int) finding {
	switch {
	case err != nil:
		return good("native XDP not known before attaching, MTU %d", mtu) // the kernel tells from 6.3 on
	case features&netdevXDPBasic == 0:
		return good("generic XDP only, which costs more for each packet, MTU %d", mtu)
	case features&netdevXDPRxSG != 0:
		return good("native XDP, jumbo frames too, MTU %d", mtu)
	case mtu > onePageMTU:
		return warning(fmt.Sprintf("lower the MTU to %d or less, or use --mode generic", onePageMTU),
			"native XDP, but not for an MTU of %d: attaching falls back on generic, which costs more for each packet", mtu)
	}
	return good("native XDP, MTU %d", mtu)
}

// From include/uapi/linux/netdev.h, which no Go package has.
const (
	netdevFamily         = "netdev"
	netdevCmdDevGet      = 1
	netdevAttrIfindex    = 1
	netdevAttrXDPFeature = 3
	netdevXDPBasic       = 1 << 0
	netdevXDPRxSG        = 1 << 5 // packets of several buffers
)

// genericHeader is struct genlmsghdr: command, version, and two bytes that have to be 0. That of the
// netlink package leaves to chance what is in those, and the netdev family refuses it then.
type genericHeader [nl.SizeofGenlmsg]byte

func (h genericHeader) Len() int          { return len(h) }
func (h genericHeader) Serialize() []byte { return h[:] }

// xdpFeatures asks the kernel what a driver has of XDP. An error means that it is not known.
func xdpFeatures(index int) (uint64, error) {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if err != nil {
		return 0, err
	}
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	request.AddData(genericHeader{netdevCmdDevGet, uint8(family.Version)})
	request.AddData(nl.NewRtAttr(netdevAttrIfindex, nl.Uint32Attr(uint32(index))))
	answers, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return 0, err
	}
	for _, answer := range answers {
		attributes, err := nl.ParseRouteAttr(answer[nl.SizeofGenlmsg:])
		if err != nil {
			return 0, err
		}
		for _, a := range attributes {
			if a.Attr.Type == netdevAttrXDPFeature && len(a.Value) == 8 {
				return nl.NativeEndian().Uint64(a.Value), nil
			}
		}
	}
	return 0, errors.New("the kernel's answer lacks the XDP features")
}

// ethtoolChannels is struct ethtool_channels of linux/ethtool.h.
type ethtoolChannels struct {
	command                           uint32
	maxRx, maxTx, maxOther, maxShared uint32
	rx, tx, other, shared             uint32
}

// linkQueues tells how many CPUs can take packets from the interface at once.
func linkQueues(l netlink.Link) finding {
	c := ethtoolChannels{command: unix.ETHTOOL_GCHANNELS}
	if err := ethtool(l.Attrs().Name, unsafe.Pointer(&c)); err != nil {
		return good("queues not known")
	}
	have, most := c.rx+c.shared, c.maxRx+c.maxShared
	if have < most {
		return good("%s of %d (more let more CPUs take part: ethtool -L)", plural(int(have), "receive queue", "receive queues"), most)
	}
	return good("%s", plural(int(have), "receive queue", "receive queues"))
}

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ command, data uint32 }

const ethtoolFlagLRO = 1 << 15 // ETH_FLAG_LRO

// linkOffloads tells whether packets are joined on their way in, before or after weir sees them.
func linkOffloads(l netlink.Link) finding {
	flags, gro := ethtoolValue{command: unix.ETHTOOL_GFLAGS}, ethtoolValue{command: unix.ETHTOOL_GGRO}
	flagsErr := ethtool(l.Attrs().Name, unsafe.Pointer(&flags))
	groErr := ethtool(l.Attrs().Name, unsafe.Pointer(&gro))
	switch {
	case flagsErr != nil || groErr != nil:
		return good("LRO and GRO not known")
	case flags.data&ethtoolFlagLRO != 0:
		return warning(fmt.Sprintf("ethtool -K %s lro off", l.Attrs().Name), "LRO, with which drivers refuse native XDP, or weir counts what it joined as one packet")
	case gro.data != 0:
		return good("no LRO, GRO (tc-ingress counts what it joined as the packets that came)")
	}
	return good("no LRO, no GRO")
}

// ethtoolRequest is struct ifreq with a pointer to the command; the kernel reads all of its 40 bytes.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// ethtool gives a command to an interface of this thread's network namespace; the answer is in it.
func ethtool(name string, command unsafe.Pointer) error {
	fd, err := ethtoolSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r := &ethtoolRequest{data: command}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

func ethtoolSocket() (int, error) {
	return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
}

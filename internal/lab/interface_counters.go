package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// InterfaceCounters is what a host's interface did since it was made, as the kernel counts it: frames, in all queues.
//
// On a veth, a frame that a program redirected into the cable is received when the other end takes it out of its ring, and
// so has been processed; one that the ring had no room for is dropped, at both ends.
type InterfaceCounters struct {
	Received, Sent                  uint64
	ReceiveDropped, TransmitDropped uint64
}

// Counters reads the interface's counters.
func (h *Host) Counters() (InterfaceCounters, error) {
	var c InterfaceCounters
	err := h.Namespace.netlink(func(handle *netlink.Handle) error {
		l, err := handle.LinkByName(h.Interface)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", h.Interface, err)
		}
		s := l.Attrs().Statistics
		c = InterfaceCounters{
			Received: s.RxPackets, Sent: s.TxPackets,
			ReceiveDropped: s.RxDropped, TransmitDropped: s.TxDropped,
		}
		return nil
	})
	return c, err
}

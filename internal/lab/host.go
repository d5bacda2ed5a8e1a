package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Host is a namespace with one interface to the rest of its lab.
type Host struct {
	Name      string
	Namespace *Namespace
	Interface string // name of the interface, inside the namespace
	MAC       net.HardwareAddr
	NextHop   net.HardwareAddr // who is at the other end of the cable: the router, or the other host of a pair
	IPv4      netip.Addr
	IPv6      netip.Addr
}

// Do runs fn inside the host's namespace; see [Namespace.Do].
func (h *Host) Do(fn func() error) error { return h.Namespace.Do(fn) }

// Address is the host's address of the same family as other.
func (h *Host) Address(other netip.Addr) netip.Addr {
	if other.Is4() {
		return h.IPv4
	}
	return h.IPv6
}

// Index is the host's interface index, which is unique only inside its namespace.
func (h *Host) Index() (int, error) {
	var index int
	err := h.Do(func() error {
		i, err := net.InterfaceByName(h.Interface)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", h.Interface, err)
		}
		index = i.Index
		return nil
	})
	return index, err
}

// Frame starts a UDP frame from this host to another, with 18 bytes of payload: the smallest that Ethernet allows.
// The caller changes what it wants otherwise.
func (h *Host) Frame(to netip.AddrPort) Frame {
	return Frame{
		SrcMAC: h.MAC, DstMAC: h.NextHop,
		Src: h.Address(to.Addr()), Dst: to.Addr(),
		SrcPort: 40000, DstPort: to.Port(),
		Payload: make([]byte, 18),
	}
}

// estate is what a lab owns, and gives back in the reverse order.
type estate struct {
	namespaces []*Namespace
	cables     []owned
}

// owned is a cable, by one of its ends.
type owned struct {
	ns   *Namespace
	name string
}

func (e *estate) namespace() (*Namespace, error) {
	ns, err := NewNamespace()
	if err == nil {
		e.namespaces = append(e.namespaces, ns)
	}
	return ns, err
}

func (e *estate) plug(c cable, a, b port) error {
	e.cables = append(e.cables, owned{a.ns, a.name}) // before, since plug may fail with the pair created
	return c.plug(a, b)
}

// close deletes the cables itself, instead of leaving that to the end of the namespace, because a socket that somebody
// forgot to close would keep the namespace, and a program attached in it, alive.
func (e *estate) close() error {
	var errs []error
	for _, c := range e.cables {
		errs = append(errs, c.ns.unplug(c.name))
	}
	for _, ns := range e.namespaces {
		errs = append(errs, ns.Close())
	}
	*e = estate{}
	return errors.Join(errs...)
}

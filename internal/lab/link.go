package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// port is one end of a cable, and what is to be configured on it.
type port struct {
	ns         *Namespace
	name       string
	mac        net.HardwareAddr
	addresses  []netip.Prefix
	neighbours []neighbour
	routes     []route
}

// neighbour is a static entry: where there is one the kernel never asks.
type neighbour struct {
	ip  netip.Addr
	mac net.HardwareAddr
}

// route leads to a prefix through the port; without a next hop the prefix is on the cable itself.
type route struct {
	to  netip.Prefix
	via netip.Addr
}

// cable holds what both ends of a veth pair share. Zero values are the kernel's defaults, except for offloads.
type cable struct {
	queues   int
	mtu      int
	offloads bool
}

// plug creates a veth pair between two ports, configures both, and sets them up.
func (c cable) plug(a, b port) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.name
	attrs.HardwareAddr = a.mac
	attrs.MTU = c.mtu
	attrs.NumRxQueues, attrs.NumTxQueues = c.queues, c.queues
	veth := netlink.NewVeth(attrs)
	veth.PeerName = b.name
	veth.PeerHardwareAddr = b.mac
	veth.PeerNamespace = netlink.NsFd(b.ns.fd)
	err := a.ns.netlink(func(h *netlink.Handle) error { return h.LinkAdd(veth) })
	if err != nil {
		return fmt.Errorf("create veth pair %s, %s: %w", a.name, b.name, mend(err))
	}
	for _, p := range []port{a, b} {
		if err := p.configure(c); err != nil {
			return fmt.Errorf("configure %s: %w", p.name, mend(err))
		}
	}
	for _, p := range []port{a, b} { // not before both are up
		if err := p.ns.awaitCarrier(p.name); err != nil {
			return fmt.Errorf("connect %s: %w", p.name, err)
		}
	}
	return nil
}

// configure gives the interface its addresses, and after it is up, what the kernel refuses on one that is down.
func (p port) configure(c cable) error {
	if !c.offloads {
		if err := p.ns.disableOffloads(p.name); err != nil {
			return err
		}
	}
	return p.ns.netlink(func(h *netlink.Handle) error {
		link, err := h.LinkByName(p.name)
		if err != nil {
			return fmt.Errorf("find interface: %w", err)
		}
		if err := p.silence(h, link); err != nil {
			return err
		}
		for _, a := range p.addresses {
			if err := addAddress(h, link, a); err != nil {
				return err
			}
		}
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
		return p.addPaths(h, link)
	})
}

// silence takes away the two flags that make the kernel talk on a new interface: with ARP it resolves neighbours and
// reports the solicited-node group of every IPv6 address, with MULTICAST a router reports the all-routers group.
func (p port) silence(h *netlink.Handle, link netlink.Link) error {
	if err := h.LinkSetARPOff(link); err != nil {
		return fmt.Errorf("set arp off: %w", err)
	}
	if err := h.LinkSetMulticastOff(link); err != nil {
		return fmt.Errorf("set multicast off: %w", err)
	}
	return nil
}

func (p port) addPaths(h *netlink.Handle, link netlink.Link) error {
	index := link.Attrs().Index
	for _, n := range p.neighbours {
		entry := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: n.ip.AsSlice(), HardwareAddr: n.mac}
		if err := h.NeighSet(entry); err != nil {
			return fmt.Errorf("add neighbour %s: %w", n.ip, err)
		}
	}
	for _, r := range p.routes {
		entry := &netlink.Route{LinkIndex: index, Dst: ipNet(r.to), Scope: netlink.SCOPE_LINK}
		if r.via.IsValid() {
			entry.Gw = r.via.AsSlice()
			entry.Scope = netlink.SCOPE_UNIVERSE
			entry.SetFlag(netlink.FLAG_ONLINK)
		}
		if err := h.RouteAdd(entry); err != nil {
			return fmt.Errorf("add route %s: %w", r.to, err)
		}
	}
	return nil
}

func addAddress(h *netlink.Handle, link netlink.Link, a netip.Prefix) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}}
	if a.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s: %w", a, err)
	}
	return nil
}

// blackhole drops, without an ICMP error, what no other route of the namespace leads to.
func (n *Namespace) blackhole(prefixes ...netip.Prefix) error {
	return n.netlink(func(h *netlink.Handle) error {
		for _, p := range prefixes {
			// IPv6 has routes of its own at metric 1024 that must win, and insists on a device.
			r := &netlink.Route{Dst: ipNet(p), Type: unix.RTN_BLACKHOLE, Priority: 4096}
			if err := h.RouteAdd(r); err != nil {
				return fmt.Errorf("add blackhole route %s: %w", p, err)
			}
		}
		return nil
	})
}

// unplug deletes the interface, and so the cable and its other end. One that is gone already is no error.
func (n *Namespace) unplug(name string) error {
	return n.netlink(func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if _, gone := err.(netlink.LinkNotFoundError); gone {
			return nil
		}
		if err == nil {
			err = h.LinkDel(link)
		}
		if err != nil {
			return fmt.Errorf("delete interface %s: %w", name, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// hardwareAddress makes a locally administered address. Every lab uses the same ones, which is safe since no two labs
// share a cable, and makes a captured frame readable.
func hardwareAddress(cable, end byte) net.HardwareAddr {
	return net.HardwareAddr{0x02, 'w', 'e', 'i', cable, end}
}

package netns

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// What a host is sent takes nothing of what it may send: the hooks of one interface, under one policy, have buckets of their own.
func TestTCDirectionsHaveBucketsOfTheirOwn(t *testing.T) {
	const burst, each = 10, 100
	r := newRig(t, lab.PairSpec{})
	config := r.config("limit: 1, window: 1h, burst: 10")
	for _, hook := range []string{"tc-ingress", "tc-egress"} {
		r.mustWeir("attach", r.B.Interface, "-c", config, "--hook", hook)
	}
	sinks := map[*lab.Host]*lab.UDPSink{}
	for _, h := range []*lab.Host{r.A, r.B} {
		sink, err := lab.NewUDPSink(h, 7)
		if err != nil {
			t.Fatal(err)
		}
		r.background(sink.Run)
		sinks[h] = sink
	}
	for from, to := range map[*lab.Host]*lab.Host{r.A: r.B, r.B: r.A} {
		client := &lab.UDPClient{Host: from, Target: netip.AddrPortFrom(to.IPv4, 7), Payload: 18, Load: lab.Load{Rate: 10_000, Count: each}}
		if err := client.Run(r.within(limit)); err != nil {
			t.Fatal(err)
		}
	}
	r.await("both hooks have decided on every packet", func() bool {
		all, err := r.attachments()
		if err != nil || len(all) != 2 {
			t.Fatalf("%d attachments, want 2: %v", len(all), err)
		}
		return seen(all[0].Counters) == each && seen(all[1].Counters) == each
	})
	for h, sink := range sinks {
		if err := sink.Await(r.within(limit), burst); err != nil {
			t.Error(err)
		}
		if n := sink.Total(); n != burst {
			t.Errorf("%d packets came to host %s, want %d", n, h.Name, burst)
		}
	}
}

// pagedFrame is a frame so long that a packet socket puts what is behind the Ethernet header into pages, if it is asked to.
const pagedFrame = 5000

// sendPaged sends a frame n times as a driver hands it on that leaves all but the Ethernet header in pages.
func (r *rig) sendPaged(from *lab.Host, frame []byte, n int) {
	r.Helper()
	index, err := from.Index()
	if err != nil {
		r.Fatal(err)
	}
	fd := -1
	err = from.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		r.Fatal(err)
	}
	// struct virtio_net_hdr: only hdr_len is set, in this machine's order; 14 is below 256.
	header := make([]byte, 10)
	header[2], header[3] = 14, 0
	for range n {
		err := unix.Sendto(fd, append(header, frame...), 0, &unix.SockaddrLinklayer{Ifindex: index})
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // which is how the sender hears of a drop on its way out
			r.Fatal(err)
		}
	}
}

// Headers that a driver left in pages are fetched, up to the ports.
func TestTCReadsHeadersInPages(t *testing.T) {
	const burst, each = 10, 50
	for _, hook := range []string{"tc-ingress", "tc-egress"} {
		for _, family := range []string{"IPv4", "IPv6"} {
			t.Run(hook+" "+family, func(t *testing.T) {
				r := newRig(t, lab.PairSpec{MTU: 9000})
				r.attachTC(hook, bestTC, "limit: 1, window: 1h, burst: 10, match: {protocol: udp, ports: [9]}")
				from, to, port := r.A, r.B, r.target(r.A.IPv4).Port()
				if hook == "tc-egress" {
					from, to = to, from
				}
				frame := from.Frame(netip.AddrPortFrom(to.IPv4, port))
				if family == "IPv6" {
					frame = from.Frame(netip.AddrPortFrom(to.IPv6, port))
				}
				frame.SrcPort, frame.DstMAC, frame.Payload = port, strangerMAC, make([]byte, pagedFrame)
				b, err := frame.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				r.sendPaged(from, b, each)
				r.awaitSeen(each)
				n := r.counters().Policies["p0"]
				if want := (loader.Count{Packets: burst, Bytes: burst * uint64(len(b))}); n[policy.VerdictPass] != want {
					t.Errorf("passed %+v, want %+v", n[policy.VerdictPass], want)
				}
				if n[policy.VerdictDrop].Packets != each-burst {
					t.Errorf("dropped %+v, want %d packets", n[policy.VerdictDrop], each-burst)
				}
			})
		}
	}
}

// The tag that the card is yet to put on is counted: it is on the wire.
func TestTCEgressCountsTheTagOfAVLAN(t *testing.T) {
	const count, payload = 20, 18
	r := newRig(t, lab.PairSpec{})
	peer := netip.MustParseAddr("192.0.7.1")
	r.addVLAN(7, netip.MustParsePrefix("192.0.7.2/24"), peer)
	r.attachTC("tc-egress", bestTC, "limit: 1000000, window: 1s")
	r.sendUDP(netip.AddrPortFrom(peer, 7), count)
	r.awaitSeen(count)
	const frame = 14 + 4 + 20 + 8 + payload
	if n := r.counters().Policies["p0"][policy.VerdictPass]; n != (loader.Count{Packets: count, Bytes: count * frame}) {
		t.Errorf("counted %+v, want %d packets of %d bytes", n, count, frame)
	}
}

// addVLAN gives host B an interface in a VLAN on its cable, and a neighbour there.
func (r *rig) addVLAN(id int, own netip.Prefix, neighbour netip.Addr) {
	r.Helper()
	err := r.B.Do(func() error {
		parent, err := netlink.LinkByName(r.B.Interface)
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "vlan", parent.Attrs().Index
		l := &netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
		if err := netlink.LinkAdd(l); err != nil {
			return err
		}
		address := &net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(own.Bits(), 32)}
		return errors.Join(
			netlink.AddrAdd(l, &netlink.Addr{IPNet: address}),
			netlink.LinkSetUp(l),
			netlink.NeighSet(&netlink.Neigh{
				LinkIndex: l.Attrs().Index, IP: neighbour.AsSlice(), HardwareAddr: net.HardwareAddr(r.A.MAC), State: netlink.NUD_PERMANENT,
			}))
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		r.Skip("this kernel has no VLAN interfaces (CONFIG_VLAN_8021Q)")
	}
	if err != nil {
		r.Fatal(err)
	}
}

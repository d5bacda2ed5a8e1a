// Package lab builds small private networks out of network namespaces and veth pairs, and sends measured traffic
// through them. `weir demo` shows itself on one, and the integration tests prove themselves on one.
//
// A lab needs root and the kernel, nothing else: no ip(8), no ethtool(8), no bind mounts. Namespaces are anonymous and
// held only by file descriptors of this process, so even SIGKILL leaves nothing behind.
//
//   - [New] builds the demonstration: clients, a router that forwards IPv4 and IPv6, and the gateway to protect.
//   - [NewPair] builds two hosts on one cable, for tests that count to the last frame.
//   - [UDPClient], [TCPClient], [Flood] and [Injector] send; a [Load] bounds and paces each of them.
//   - [UDPSink], [EchoServer] and [Sniffer] receive and count.
//
// What runs has the shape Run(ctx) error. A Run that its context stops returns nil, so that the errgroup around it reports the
// failure that came first; counters tell how far it got.
//
// # What a cable carries
//
// One datagram sent is one frame received, with complete checksums: the veth pairs are built without segmentation,
// receive or checksum offload ([PairSpec.Offloads] keeps them). Nothing else is on the cable: addresses are added
// without duplicate detection, neighbours are static, interfaces are NOARP and not MULTICAST, and no
// link-local address is generated. Thus there is no ARP, no neighbour discovery, no router solicitation and no
// multicast listener report. What may remain is what the hosts themselves answer, such as ICMP errors for closed ports.
package lab

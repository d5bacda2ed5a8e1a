package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// MaxClients is how many clients a topology may have: the addresses 198.51.100.10 to .209.
const MaxClients = 200

// ErrTopology is the reason of every refusal of a [Topology].
var ErrTopology = errors.New("invalid topology")

// Topology describes the demonstration network: each client has a cable to the router, and the router one to the
// gateway. All addresses are reserved for documentation (RFC 5737, RFC 3849).
//
//	client i  198.51.100.(10+i)  2001:db8:0:(1+i)::2/64   eth0 --- c(i)
//	                                                               router  192.0.2.1
//	gateway   203.0.113.2/24     2001:db8:0:ffff::2/64    eth0 --- uplink  203.0.113.1
type Topology struct {
	Clients []string // names, unique and not empty; at most [MaxClients]
}

// Validate reports, wrapping [ErrTopology], why a topology cannot be built.
func (t Topology) Validate() error {
	if len(t.Clients) > MaxClients {
		return fmt.Errorf("%w: %d clients, at most %d", ErrTopology, len(t.Clients), MaxClients)
	}
	for i, name := range t.Clients {
		if name == "" {
			return fmt.Errorf("%w: client %d has no name", ErrTopology, i)
		}
		if slices.Contains(t.Clients[:i], name) {
			return fmt.Errorf("%w: two clients named %q", ErrTopology, name)
		}
	}
	return nil
}

// Lab is a running demonstration network.
type Lab struct {
	gateway *Host
	clients map[string]*Host

	mu     sync.Mutex
	estate estate
}

// Networks of the demonstration: every address of every host in it, and so what a spoofed flood has to avoid.
var (
	uplinkNet4 = netip.MustParsePrefix("203.0.113.0/24")
	clientNet4 = netip.MustParsePrefix("198.51.100.0/24")
	routerNet4 = netip.MustParsePrefix("192.0.2.0/24")
	labNet6    = netip.MustParsePrefix("2001:db8::/32")

	everything4 = netip.MustParsePrefix("0.0.0.0/0")
	everything6 = netip.MustParsePrefix("::/0")
	routerIPv4  = netip.MustParseAddr("192.0.2.1")
)

// uplinkID is the gateway's /64 and the cable number in its hardware addresses; clients count from 0.
const uplinkID = 0xff

// New builds a topology. On an error, or when ctx ends while it builds, it removes what it built.
func New(ctx context.Context, t Topology) (*Lab, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	l := &Lab{clients: make(map[string]*Host, len(t.Clients))}
	if err := l.build(ctx, t); err != nil {
		l.Close()
		return nil, fmt.Errorf("build lab: %w", err)
	}
	return l, nil
}

// Gateway is the host to protect.
func (l *Lab) Gateway() *Host { return l.gateway }

// Client is the client of that name, nil if there is none.
func (l *Lab) Client(name string) *Host { return l.clients[name] }

// Close removes the lab. Closing twice is harmless.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.estate.close()
}

func (l *Lab) build(ctx context.Context, t Topology) error {
	router, err := l.estate.namespace()
	if err != nil {
		return err
	}
	// Answers to spoofed sources end here, silently.
	if err := router.blackhole(everything4, everything6); err != nil {
		return err
	}
	if l.gateway, err = l.addGateway(router); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	for i, name := range t.Clients {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.clients[name], err = l.addClient(router, name, i); err != nil {
			return fmt.Errorf("client %s: %w", name, err)
		}
	}
	// Last, because an interface with MULTICAST, as each has until it is configured, joins and reports the all-routers group.
	return errors.Join(router.writeSettings(forwardingHost), ctx.Err())
}

func (l *Lab) addGateway(router *Namespace) (*Host, error) {
	ns, err := l.estate.namespace()
	if err != nil {
		return nil, err
	}
	h := &Host{
		Name: "gateway", Namespace: ns, Interface: "eth0",
		MAC: hardwareAddress(uplinkID, 1), NextHop: hardwareAddress(uplinkID, 0),
		IPv4: netip.MustParseAddr("203.0.113.2"), IPv6: labAddress6(0xffff, 2),
	}
	via4, via6 := netip.MustParseAddr("203.0.113.1"), labAddress6(0xffff, 1)
	far := port{
		ns: ns, name: h.Interface, mac: h.MAC,
		addresses:  []netip.Prefix{netip.PrefixFrom(h.IPv4, 24), netip.PrefixFrom(h.IPv6, 64)},
		neighbours: []neighbour{{via4, h.NextHop}, {via6, h.NextHop}},
		routes:     []route{{everything4, via4}, {everything6, via6}},
	}
	near := port{
		ns: router, name: "uplink", mac: h.NextHop,
		addresses:  []netip.Prefix{netip.PrefixFrom(via4, 24), netip.PrefixFrom(via6, 64)},
		neighbours: []neighbour{{h.IPv4, h.MAC}, {h.IPv6, h.MAC}},
	}
	return h, l.estate.plug(cable{}, near, far)
}

func (l *Lab) addClient(router *Namespace, name string, i int) (*Host, error) {
	ns, err := l.estate.namespace()
	if err != nil {
		return nil, err
	}
	h := &Host{
		Name: name, Namespace: ns, Interface: "eth0",
		MAC: hardwareAddress(byte(i), 1), NextHop: hardwareAddress(byte(i), 0),
		IPv4: netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + i)}), IPv6: labAddress6(uint16(1+i), 2),
	}
	via6 := labAddress6(uint16(1+i), 1)
	far := port{
		ns: ns, name: h.Interface, mac: h.MAC,
		addresses:  []netip.Prefix{netip.PrefixFrom(h.IPv4, 32), netip.PrefixFrom(h.IPv6, 64)},
		neighbours: []neighbour{{routerIPv4, h.NextHop}, {via6, h.NextHop}},
		routes:     []route{{everything4, routerIPv4}, {everything6, via6}},
	}
	near := port{
		ns: router, name: fmt.Sprintf("c%d", i), mac: h.NextHop,
		addresses:  []netip.Prefix{netip.PrefixFrom(routerIPv4, 32), netip.PrefixFrom(via6, 64)},
		neighbours: []neighbour{{h.IPv4, h.MAC}, {h.IPv6, h.MAC}},
		routes:     []route{{to: netip.PrefixFrom(h.IPv4, 32)}},
	}
	return h, l.estate.plug(cable{}, near, far)
}

// labAddress6 is 2001:db8:0:NETWORK::HOST.
func labAddress6(network uint16, host byte) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: host}
	a[6], a[7] = byte(network>>8), byte(network)
	return netip.AddrFrom16(a)
}

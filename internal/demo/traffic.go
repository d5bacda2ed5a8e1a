package demo

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
)

// What the hosts send, per second. Two cores have to play all hosts at once. These floods keep less than one of them busy, and
// so leave room to make up for a moment in which the machine stood still: a sender then sends at four times its rate.
const (
	goodRate     = 200 // datagrams, and with the exchanges 300 packets: under a third of the limit
	exchangeRate = 100
	floodRate    = 25_000
	botRate      = 100 // of each bot: a tenth of the limit
	bots         = 200
	spoofRate    = 50_000
	bannedRate   = 1000

	udpPort  = 9
	echoPort = 7
	payload  = 18 // bytes, which makes the smallest frame of Ethernet
	// answerTimeout is when the good client gives an answer up; TCP has repeated its question by then.
	answerTimeout = time.Second
)

// botNet is the network that the bots are in: of those for benchmarks (RFC 2544), and none of the lab's.
func botNet() netip.Prefix { return netip.MustParsePrefix("198.18.7.0/24") }

// Kind says what a client does.
type Kind string

// The kinds of clients.
const (
	KindGood    Kind = "good"    // stays within the limit
	KindFlooder Kind = "flooder" // sends far more, from its own address
	KindBotnet  Kind = "botnet"  // many sources of one network, each within its limit
	KindSpoofed Kind = "spoofed" // sends each packet from another address, drawn at random
	KindBanned  Kind = "banned"  // is banned when weir is attached
)

// cast is who takes part, in the order of the table.
func cast() []Client {
	return []Client{
		{Name: "good client", Kind: KindGood, Family: "ipv4", Hosts: 1, Offered: goodRate},
		{Name: "IPv4 flooder", Kind: KindFlooder, Family: "ipv4", Hosts: 1, Offered: floodRate},
		{Name: "IPv6 flooder", Kind: KindFlooder, Family: "ipv6", Hosts: 1, Offered: floodRate},
		{Name: fmt.Sprintf("%d-host botnet", bots), Kind: KindBotnet, Family: "ipv4", Hosts: bots, Offered: bots * botRate},
		{Name: "spoofed flood", Kind: KindSpoofed, Family: "ipv4", Offered: spoofRate},
		{Name: "banned host", Kind: KindBanned, Family: "ipv4", Hosts: 1, Offered: bannedRate},
	}
}

func hostNames() []string {
	var names []string
	for _, c := range cast() {
		names = append(names, c.Name)
	}
	return names
}

// addresses are those that a client's datagrams come from; none if they are drawn at random.
func addresses(l *lab.Lab, c Client) []netip.Addr {
	switch c.Kind {
	case KindSpoofed:
		return nil
	case KindBotnet:
		all := make([]netip.Addr, c.Hosts)
		a := botNet().Addr()
		for i := range all {
			a = a.Next()
			all[i] = a
		}
		return all
	}
	if c.Family == "ipv6" {
		return []netip.Addr{l.Client(c.Name).IPv6}
	}
	return []netip.Addr{l.Client(c.Name).IPv4}
}

// source is a client's sender of datagrams, and who counts them.
type source struct {
	client Client
	after  <-chan struct{} // when it begins; nil: at once
	run    func(context.Context) error
	sent   func() uint64
	passed func() uint64
	// active is for how long it sent, in nanoseconds; 0 until it has ended.
	active atomic.Int64
}

func newSource(l *lab.Lab, c Client, d time.Duration, sink *lab.UDPSink) (*source, error) {
	host, gateway := l.Client(c.Name), l.Gateway()
	target := netip.AddrPortFrom(gateway.IPv4, udpPort)
	if c.Family == "ipv6" {
		target = netip.AddrPortFrom(gateway.IPv6, udpPort)
	}
	load := lab.Load{Rate: c.Offered, Duration: d}
	from := addresses(l, c)
	s := &source{client: c, passed: func() (n uint64) {
		for _, a := range from {
			n += sink.From(a).Packets
		}
		return n
	}}
	switch c.Kind {
	case KindSpoofed:
		f := &lab.Flood{Host: host, Target: target, Payload: payload, Seed: 1, Load: load}
		s.run, s.sent, s.passed = f.Run, f.Sent, func() uint64 { return sink.Others().Packets }
	case KindBotnet:
		frames, err := framesFrom(host, target, from)
		if err != nil {
			return nil, err
		}
		j := &lab.Injector{Host: host, Next: lab.Cycle(frames...), Load: load}
		s.run, s.sent = j.Run, j.Sent
	default:
		u := &lab.UDPClient{Host: host, Target: target, Payload: payload, Load: load}
		s.run, s.sent = u.Run, u.Sent
		if c.Kind == KindGood {
			s.sent = func() uint64 { return u.Sent() + u.Failed() } // what its own kernel refuses is lost for it as well
		}
	}
	return s, nil
}

// framesFrom is a frame from each of the addresses.
func framesFrom(h *lab.Host, target netip.AddrPort, from []netip.Addr) ([][]byte, error) {
	var all [][]byte
	for _, a := range from {
		frame := h.Frame(target)
		frame.Src, frame.Payload = a, make([]byte, payload)
		b, err := frame.Bytes()
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// send runs the source, and takes its time.
func (s *source) send(ctx context.Context) error {
	if s.after != nil {
		select {
		case <-s.after:
		case <-ctx.Done():
			return nil
		}
	}
	start := time.Now()
	defer func() { s.active.Store(int64(time.Since(start))) }()
	return s.run(ctx)
}

// read is the client as it stands, elapsed after the start and after it had sent so many.
func (s *source) read(sent uint64, elapsed time.Duration) Client {
	c := s.client
	c.Passed = s.passed()
	c.Sent = max(sent, c.Passed) // more may have been sent, and passed, since
	c.Dropped = c.Sent - c.Passed
	c.Active = elapsed
	if active := time.Duration(s.active.Load()); active > 0 {
		c.Active = active
	}
	return c
}

package demo

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
)

// What the hosts send, per second. Two cores have to play all six hosts at once. These floods keep one of them busy and leave
// the other: what a client gets is then decided by weir, and not by who runs when.
const (
	goodRate     = 200 // datagrams, and with the exchanges 300 packets: under a third of the limit
	exchangeRate = 100
	floodRate    = 50_000
	spoofRate    = 100_000

	udpPort  = 9
	echoPort = 7
	payload  = 18 // bytes, which makes the smallest frame of Ethernet
	// answerTimeout is when the good client gives an answer up; TCP has repeated its question by then.
	answerTimeout = time.Second
)

// Kind says what a client does.
type Kind string

// The kinds of clients.
const (
	KindGood    Kind = "good"    // stays within the limit
	KindFlooder Kind = "flooder" // sends far more, from its own address
	KindSpoofed Kind = "spoofed" // sends each packet from another address, drawn at random
)

// cast is who takes part, in the order of the table.
func cast() []Client {
	return []Client{
		{Name: "good client", Kind: KindGood, Family: "ipv4", Offered: goodRate},
		{Name: "IPv4 flooder", Kind: KindFlooder, Family: "ipv4", Offered: floodRate},
		{Name: "IPv6 flooder", Kind: KindFlooder, Family: "ipv6", Offered: floodRate},
		{Name: "spoofed flood", Kind: KindSpoofed, Family: "ipv4", Offered: spoofRate},
	}
}

func hostNames() []string {
	var names []string
	for _, c := range cast() {
		names = append(names, c.Name)
	}
	return names
}

// source is a client's sender of datagrams, and who counts them.
type source struct {
	client Client
	run    func(context.Context) error
	sent   func() uint64
	passed func() uint64
	// active is for how long it sent, in nanoseconds; 0 until it has ended.
	active atomic.Int64
}

func newSource(l *lab.Lab, c Client, d time.Duration, sink *lab.UDPSink) *source {
	host, gateway := l.Client(c.Name), l.Gateway()
	target := netip.AddrPortFrom(gateway.IPv4, udpPort)
	if c.Family == "ipv6" {
		target = netip.AddrPortFrom(gateway.IPv6, udpPort)
	}
	load := lab.Load{Rate: c.Offered, Duration: d}
	if c.Kind == KindSpoofed {
		f := &lab.Flood{Host: host, Target: target, Payload: payload, Seed: 1, Load: load}
		return &source{client: c, run: f.Run, sent: f.Sent, passed: func() uint64 { return sink.Others().Packets }}
	}
	u := &lab.UDPClient{Host: host, Target: target, Payload: payload, Load: load}
	s := &source{client: c, run: u.Run, sent: u.Sent}
	if c.Kind == KindGood {
		s.sent = func() uint64 { return u.Sent() + u.Failed() } // what its own kernel refuses is lost for it as well
	}
	s.passed = func() uint64 { return sink.From(host.Address(target.Addr())).Packets }
	return s
}

// send runs the source, and takes its time.
func (s *source) send(ctx context.Context) error {
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

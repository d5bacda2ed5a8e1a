package lab

import (
	"context"
	"testing"

	"github.com/cilium/ebpf/link"
)

// BenchmarkSenders measures how fast the senders go on one core, which includes what the receiving side does to each frame:
// a veth delivers in the sender's context.
//
//	go test -run xxx -bench Senders ./internal/lab
func BenchmarkSenders(b *testing.B) {
	for _, receiver := range []string{"xdp-drop", "xdp-pass", "sink"} {
		p := testPair(b, PairSpec{})
		testSink(b, p.B, 9)
		switch receiver {
		case "xdp-drop":
			attachXDP(b, p.B, link.XDPDriverMode, xdpDrop)
		case "xdp-pass":
			attachXDP(b, p.B, link.XDPDriverMode, xdpPass)
		}
		for _, v6 := range []bool{false, true} {
			family := map[bool]string{false: "v4", true: "v6"}[v6]
			b.Run(receiver+"/flood-"+family, func(b *testing.B) {
				benchmarkSender(b, (&Flood{Host: p.A, Target: target(p.B, v6, 9), Payload: 18, Load: Load{Count: uint64(b.N)}}).Run)
			})
			b.Run(receiver+"/udp-"+family, func(b *testing.B) {
				benchmarkSender(b, (&UDPClient{Host: p.A, Target: target(p.B, v6, 9), Payload: 18, Load: Load{Count: uint64(b.N)}}).Run)
			})
		}
	}
}

func benchmarkSender(b *testing.B, run func(context.Context) error) {
	if err := run(testContext(b)); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
}

// BenchmarkForge is the part of a flood that is not the kernel's.
func BenchmarkForge(b *testing.B) {
	h := &Host{MAC: srcMAC, NextHop: dstMAC, IPv4: v4Src, IPv6: v6Src}
	g, err := newForger(h.Frame(target(&Host{IPv4: v4Dst}, false, 9)), randomSources(1, true))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 2048)
	for b.Loop() {
		g.next(buf)
	}
}

func BenchmarkBuildLab(b *testing.B) {
	for b.Loop() {
		l, err := New(testContext(b), Topology{Clients: []string{"good", "flood4", "flood6", "spoof"}})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

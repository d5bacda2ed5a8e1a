package lab

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The verdicts of enum xdp_action.
const (
	xdpDrop = 1
	xdpPass = 2
)

// attachXDP attaches a program that gives every frame one verdict.
func attachXDP(t testing.TB, h *Host, flags link.XDPAttachFlags, verdict int32) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "one_verdict", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	index, err := h.Index()
	if err != nil {
		t.Fatal(err)
	}
	var attached link.Link
	err = h.Do(func() error {
		attached, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: flags})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attached.Close() })
}

// Native XDP on veth has a history of losing what the other end left to hardware: half-done checksums, segments
// larger than the MTU. This holds that everything passes, in both modes, with the offloads and without.
func TestTrafficPassesXDP(t *testing.T) {
	for _, mode := range []struct {
		name  string
		flags link.XDPAttachFlags
	}{{"native", link.XDPDriverMode}, {"generic", link.XDPGenericMode}} {
		for _, spec := range []PairSpec{{}, {Offloads: true}, {Queues: 4}, {MTU: 3500}} {
			t.Run(fmt.Sprintf("%s offloads=%v queues=%d mtu=%d", mode.name, spec.Offloads, spec.Queues, spec.MTU), func(t *testing.T) {
				p := testPair(t, spec)
				attachXDP(t, p.B, mode.flags, xdpPass)
				families(t, func(t *testing.T, v6 bool) { expectTraffic(t, p, v6) })
			})
		}
	}
}

// expectTraffic sends datagrams that fill the MTU and a TCP exchange of many segments.
func expectTraffic(t *testing.T, p *Pair, v6 bool) {
	sink, err := NewUDPSink(p.B, 9, p.A.IPv4, p.A.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, sink.Run)()
	udp := UDPClient{Host: p.A, Target: target(p.B, v6, 9), Payload: 1452, Load: Load{Rate: 10_000, Count: 500}}
	if err := udp.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := sink.Await(testContext(t), udp.Sent()); err != nil || udp.Failed() > 0 {
		t.Errorf("udp: failed %d, %v", udp.Failed(), err)
	}
	echo, err := NewEchoServer(p.B, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, echo.Run)()
	tcp := TCPClient{Host: p.A, Target: target(p.B, v6, 7), Payload: 200_000, Timeout: 5 * time.Second, Load: Load{Count: 10}}
	if err := tcp.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if tcp.Sent() != 10 {
		t.Errorf("tcp: %d of 10 exchanges of 200 kB", tcp.Sent())
	}
}

// Without offloads the checksum of what a socket sends is on the cable; with them it is not, and a program that verifies or
// updates it would compute nonsense. Should a kernel change the second, PairSpec.Offloads needs a new comment.
func TestChecksumsOnTheCable(t *testing.T) {
	for _, offloads := range []bool{false, true} {
		families(t, func(t *testing.T, v6 bool) {
			p := testPair(t, PairSpec{Offloads: offloads})
			frame := captureOne(t, p, v6)
			if complete := verifyChecksums(frame) == ""; complete == offloads {
				t.Errorf("offloads %v: checksums complete %v: %x", offloads, complete, frame)
			}
		})
	}
}

// captureOne also holds that a cable carries the first datagram that is sent after it was built.
func captureOne(t *testing.T, p *Pair, v6 bool) []byte {
	t.Helper()
	s, err := openPacketSocket(p.B, unix.ETH_P_ALL, func(int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	defer s.interruptWhenDone(testContext(t))()
	c := UDPClient{Host: p.A, Target: target(p.B, v6, 9), Payload: 40, Load: Load{Count: 1}}
	if err := c.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(unix.POLLIN); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 2048)
	n, _, err := unix.Recvfrom(s.fd, frame, 0)
	if err != nil {
		t.Fatal(err)
	}
	return frame[:n]
}

// TCP sends no frame above the MTU, although the kernel's TCP always builds larger segments.
func TestSegmentsFitTheMTU(t *testing.T) {
	p := testPair(t, PairSpec{})
	sniffer := testSniffer(t, p.B)
	echo, err := NewEchoServer(p.B, 7)
	if err != nil {
		t.Fatal(err)
	}
	start(t, echo.Run)
	tcp := TCPClient{Host: p.A, Target: target(p.B, false, 7), Payload: 200_000, Timeout: 5 * time.Second, Load: Load{Count: 1}}
	if err := tcp.Run(testContext(t)); err != nil || tcp.Sent() != 1 {
		t.Fatalf("%d exchanges, %v", tcp.Sent(), err)
	}
	if err := sniffer.Await(testContext(t), 200_000/1460); err != nil {
		t.Error(err)
	}
}

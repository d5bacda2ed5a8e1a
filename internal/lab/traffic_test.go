package lab

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
)

// families runs a test over IPv4 and over IPv6.
func families(t *testing.T, test func(t *testing.T, v6 bool)) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) { test(t, v6) })
	}
}

// Each datagram sent is one frame on the cable and one datagram received, and there is no other frame, from before the
// first to after the last.
func TestUDPIsExact(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		const count = 2000
		p := testPair(t, PairSpec{})
		sniffer, back := testSniffer(t, p.B), testSniffer(t, p.A)
		sink := testSink(t, p.B, 9, p.A)
		for _, size := range []int{0, 1452} {
			c := UDPClient{Host: p.A, Target: target(p.B, v6, 9), Payload: size, Load: Load{Rate: 20_000, Count: count}}
			if err := c.Run(testContext(t)); err != nil {
				t.Fatal(err)
			}
			if c.Sent() != count || c.Failed() != 0 {
				t.Errorf("sent %d, failed %d, want %d and 0", c.Sent(), c.Failed(), count)
			}
		}
		if err := sink.Await(testContext(t), 2*count); err != nil {
			t.Fatal(err)
		}
		source := p.A.Address(target(p.B, v6, 9).Addr())
		if got, want := sink.From(source), (Tally{2 * count, count * 1452}); got != want || sink.Others() != (Tally{}) {
			t.Errorf("received %+v, others %+v, want %+v and none", got, sink.Others(), want)
		}
		if n, err := sink.Overflowed(); n != 0 || err != nil {
			t.Errorf("overflowed %d, %v", n, err)
		}
		if err := sniffer.Await(testContext(t), 2*count); err != nil {
			t.Fatal(err)
		}
		expectFrames(t, sniffer, map[FrameKey]uint64{{Source: source}: 2 * count})
		expectFrames(t, back, map[FrameKey]uint64{})
	})
}

// Closed ports answer with ICMP errors, which concern a sender's datagrams and not the sender.
func TestUDPToAClosedPort(t *testing.T) {
	p := testPair(t, PairSpec{})
	c := UDPClient{Host: p.A, Target: target(p.B, false, 9), Load: Load{Rate: 1000, Count: 50}}
	if err := c.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if c.Failed() == 0 || c.Sent()+c.Failed() != 50 {
		t.Errorf("sent %d, failed %d, want some of 50 failed", c.Sent(), c.Failed())
	}
}

func TestUDPThroughTheRouter(t *testing.T) {
	l := testLab(t, "one", "two")
	g := l.Gateway()
	sniffer := testSniffer(t, g)
	sink := testSink(t, g, 9, l.Client("one"))
	families(t, func(t *testing.T, v6 bool) {
		before, others := sink.Total(), sink.Others().Packets
		for _, name := range []string{"one", "two"} {
			c := UDPClient{Host: l.Client(name), Target: target(g, v6, 9), Payload: 10, Load: Load{Rate: 10_000, Count: 500}}
			if err := c.Run(testContext(t)); err != nil {
				t.Fatal(err)
			}
		}
		if err := sink.Await(testContext(t), before+1000); err != nil {
			t.Fatal(err)
		}
		if got := sink.From(l.Client("one").Address(target(g, v6, 9).Addr())); got != (Tally{500, 5000}) {
			t.Errorf("received %+v from a known client, want 500 of 10 bytes", got)
		}
		if got := sink.Others().Packets - others; got != 500 {
			t.Errorf("received %d from others, want 500", got)
		}
	})
	if err := sniffer.Await(testContext(t), 2000); err != nil {
		t.Fatal(err)
	}
	want := map[FrameKey]uint64{}
	for _, a := range addresses([]*Host{l.Client("one"), l.Client("two")}) {
		want[FrameKey{Source: a}] = 500
	}
	expectFrames(t, sniffer, want)
}

func TestTCPEcho(t *testing.T) {
	l := testLab(t, "good")
	echo, err := NewEchoServer(l.Gateway(), 7)
	if err != nil {
		t.Fatal(err)
	}
	start(t, echo.Run)
	families(t, func(t *testing.T, v6 bool) {
		before := echo.Accepted()
		c := TCPClient{
			Host: l.Client("good"), Target: target(l.Gateway(), v6, 7), Timeout: 5 * time.Second,
			PerConnection: 25, Load: Load{Rate: 1000, Count: 100},
		}
		if err := c.Run(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if c.Sent() != 100 || c.Failed() != 0 || c.Latency.Count() != 100 {
			t.Errorf("answered %d, failed %d, want 100 and 0", c.Sent(), c.Failed())
		}
		if n := echo.Accepted() - before; n != 4 {
			t.Errorf("%d connections, want 4 of 25 exchanges", n)
		}
		if p50, p99 := c.Latency.Quantile(0.5), c.Latency.Quantile(0.99); p50 <= 0 || p99 < p50 {
			t.Errorf("latency p50 %v p99 %v", p50, p99)
		}
	})
}

func TestTCPWithoutAServer(t *testing.T) {
	p := testPair(t, PairSpec{})
	c := TCPClient{Host: p.A, Target: target(p.B, false, 7), Load: Load{Rate: 1000, Count: 10}}
	if err := c.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if c.Sent() != 0 || c.Failed() != 10 {
		t.Errorf("answered %d, failed %d, want 0 and 10", c.Sent(), c.Failed())
	}
}

// Whatever is stopped in the middle returns nil and leaves nothing.
func TestStoppingLeavesNothing(t *testing.T) {
	testutil.NoLeaks(t)
	p := testPair(t, PairSpec{})
	sink := testSink(t, p.B, 9, p.A)
	echo, err := NewEchoServer(p.B, 7)
	if err != nil {
		t.Fatal(err)
	}
	start(t, echo.Run)
	testSniffer(t, p.B)
	load := Load{Rate: 1000, Duration: time.Hour}
	tcp := &TCPClient{Host: p.A, Target: target(p.B, true, 7), Load: load}
	start(t, tcp.Run)
	start(t, (&UDPClient{Host: p.A, Target: target(p.B, false, 9), Load: load}).Run)
	start(t, (&Flood{Host: p.A, Target: target(p.B, true, 9), Load: load}).Run)
	if err := sink.Await(testContext(t), 100); err != nil {
		t.Fatal(err)
	}
}

// Receivers that never ran give back what they hold.
func TestCloseWithoutRun(t *testing.T) {
	testutil.NoLeaks(t)
	p := testPair(t, PairSpec{})
	sink, err1 := NewUDPSink(p.B, 9)
	echo, err2 := NewEchoServer(p.B, 7)
	sniffer, err3 := NewSniffer(p.B)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for range 2 {
		for name, c := range map[string]interface{ Close() error }{"sink": sink, "echo": echo, "sniffer": sniffer} {
			if err := c.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestAwaitSaysHowFarItGot(t *testing.T) {
	p := testPair(t, PairSpec{})
	sink := testSink(t, p.B, 9)
	ctx, cancel := context.WithCancelCause(testContext(t))
	cancel(fmt.Errorf("enough"))
	want := "udp sink on b: 0 of 5 datagrams arrived: enough"
	if err := sink.Await(ctx, 5); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func expectFrames(t testing.TB, s *Sniffer, want map[FrameKey]uint64) {
	t.Helper()
	got := s.Counts()
	for key, n := range got {
		if n != want[key] {
			t.Errorf("%s received %d frames of %+v, want %d", s.host.Name, n, key, want[key])
		}
	}
	for key, n := range want {
		if got[key] == 0 {
			t.Errorf("%s received no frames of %+v, want %d", s.host.Name, key, n)
		}
	}
	if n, err := s.Missed(); n != 0 || err != nil {
		t.Errorf("%s missed %d frames, %v", s.host.Name, n, err)
	}
}

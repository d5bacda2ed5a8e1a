package lab

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// limit bounds every test far above what it needs.
const limit = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func testPair(t testing.TB, spec PairSpec) *Pair {
	t.Helper()
	testutil.RequireRoot(t)
	p, err := NewPair(testContext(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func testLab(t testing.TB, clients ...string) *Lab {
	t.Helper()
	testutil.RequireRoot(t)
	l, err := New(testContext(t), Topology{Clients: clients})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// start runs a receiver until the test is over, or until stop, and fails the test on its error.
func start(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func testSniffer(t testing.TB, h *Host) *Sniffer {
	t.Helper()
	s, err := NewSniffer(h)
	if err != nil {
		t.Fatal(err)
	}
	start(t, s.Run)
	return s
}

func testSink(t testing.TB, h *Host, port uint16, known ...*Host) *UDPSink {
	t.Helper()
	s, err := NewUDPSink(h, port, addresses(known)...)
	if err != nil {
		t.Fatal(err)
	}
	start(t, s.Run)
	return s
}

func addresses(hosts []*Host) []netip.Addr {
	var all []netip.Addr
	for _, h := range hosts {
		all = append(all, h.IPv4, h.IPv6)
	}
	return all
}

// target is a port of the host in one of the two families.
func target(h *Host, v6 bool, port uint16) netip.AddrPort {
	if v6 {
		return netip.AddrPortFrom(h.IPv6, port)
	}
	return netip.AddrPortFrom(h.IPv4, port)
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestTopologyValidate(t *testing.T) {
	for name, clients := range map[string][]string{
		"empty name":   {""},
		"twice":        {"a", "b", "a"},
		"one too many": make([]string, MaxClients+1),
	} {
		if _, err := New(t.Context(), Topology{Clients: clients}); !errors.Is(err, ErrTopology) {
			t.Errorf("%s: %v, want ErrTopology", name, err)
		}
	}
}

// Everything a lab is made of goes with it, also when it is closed twice, and the machine's own interfaces never change.
func TestNothingLeft(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	before := interfaces(t)
	l, err := New(testContext(t), Topology{Clients: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPair(testContext(t), PairSpec{Queues: 2})
	if err != nil {
		t.Fatal(err)
	}
	if now := interfaces(t); !slices.Equal(now, before) {
		t.Errorf("interfaces of the machine: before %v, now %v", before, now)
	}
	for range 2 {
		if err := errors.Join(l.Close(), p.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := p.A.Do(func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Do after Close: %v, want ErrClosed", err)
	}
	if now := interfaces(t); !slices.Equal(now, before) {
		t.Errorf("interfaces of the machine: before %v, after %v", before, now)
	}
}

func TestCancelledBuild(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, Topology{Clients: []string{"a"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("New: %v, want Canceled", err)
	}
	if _, err := NewPair(ctx, PairSpec{}); !errors.Is(err, context.Canceled) {
		t.Errorf("NewPair: %v, want Canceled", err)
	}
}

func TestBuildFailsHalfWay(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	if _, err := NewPair(testContext(t), PairSpec{B: HostSpec{Interface: "this-name-is-too-long"}}); err == nil {
		t.Error("an interface name of 21 bytes is no error")
	}
	if _, err := NewPair(testContext(t), PairSpec{MTU: 1000}); err == nil { // IPv6 needs 1280
		t.Error("an MTU without IPv6 is no error")
	}
}

func TestDo(t *testing.T) {
	p := testPair(t, PairSpec{A: HostSpec{Interface: "left"}})
	outside := threadNamespace(t)
	var inside string
	err := p.A.Do(func() error {
		inside = threadNamespace(t)
		_, err := net.InterfaceByName("left")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if inside == outside || threadNamespace(t) != outside {
		t.Errorf("namespaces: outside %s, inside %s, after %s", outside, inside, threadNamespace(t))
	}
	if link, err := os.Readlink(p.A.Namespace.Path()); err != nil || link != inside {
		t.Errorf("Path leads to %q, %v, want %q", link, err, inside)
	}
	failure := errors.New("failure")
	if err := p.A.Do(func() error { return failure }); !errors.Is(err, failure) {
		t.Errorf("Do gives %v, want what fn returned", err)
	}
	if err := p.A.Do(func() error { runtime.Goexit(); return nil }); !errors.Is(err, ErrGoexit) {
		t.Errorf("Do gives %v, want ErrGoexit", err)
	}
}

func TestAddresses(t *testing.T) {
	l := testLab(t, "good", "bad")
	for h, want := range map[*Host]string{
		l.Gateway():      "203.0.113.2 2001:db8:0:ffff::2",
		l.Client("good"): "198.51.100.10 2001:db8:0:1::2",
		l.Client("bad"):  "198.51.100.11 2001:db8:0:2::2",
	} {
		if got := fmt.Sprint(h.IPv4, " ", h.IPv6); got != want {
			t.Errorf("%s has %s, want %s", h.Name, got, want)
		}
	}
	if l.Client("none") != nil {
		t.Error("a client that does not exist is found")
	}
}

// Two labs have the same addresses and nothing else in common.
func TestTwoLabs(t *testing.T) {
	one, two := testLab(t, "c"), testLab(t, "c")
	sinkOne := testSink(t, one.Gateway(), 9, one.Client("c"))
	sinkTwo := testSink(t, two.Gateway(), 9, two.Client("c"))
	for count, l := range map[uint64]*Lab{100: one, 200: two} {
		c := UDPClient{Host: l.Client("c"), Target: target(l.Gateway(), false, 9), Load: Load{Count: count, Rate: 10_000}}
		if err := c.Run(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(sinkOne.Await(testContext(t), 100), sinkTwo.Await(testContext(t), 200)); err != nil {
		t.Fatal(err)
	}
	if sinkOne.Total() != 100 || sinkTwo.Total() != 200 {
		t.Errorf("arrived %d and %d, want 100 and 200", sinkOne.Total(), sinkTwo.Total())
	}
}

func interfaces(t testing.TB) (names []string) {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names
}

func threadNamespace(t testing.TB) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
	}
	return link
}

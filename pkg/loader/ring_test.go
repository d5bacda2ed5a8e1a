package loader

import (
	"math"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// A ring buffer that nobody reads fills up. What does not fit is counted, and changes no verdict.
func TestAFullRingBufferChangesNoVerdict(t *testing.T) {
	testutil.RequireRoot(t)
	const burst, runs = 10, 200_000
	objects, err := ObjectsOf(HookXDP)
	if err != nil {
		t.Fatal(err)
	}
	objects.Maps[xdpMapEvents].MaxEntries = uint32(os.Getpagesize()) // the smallest there is
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: burst, Window: 10 * 24 * time.Hour}.WithDefaults()
	s, err := LoadStandalone(StandaloneOptions{Policies: []policy.Policy{p}, TableEntries: 1 << 10, Objects: objects})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	listening := xdpControlPage{EventsUntil: math.MaxUint64} // for ever, to somebody who never looks
	if err := s.shared.maps[controlSection].Put(uint32(0), listening); err != nil {
		t.Fatal(err)
	}
	var c Counters
	sent := uint64(0)
	for deadline := time.Now().Add(30 * time.Second); c.EventsLost == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the ring buffer does not fill up")
		}
		if _, err := s.Program().Run(&ebpf.RunOptions{Data: udpFrame(1), Repeat: runs}); err != nil {
			t.Fatal(err)
		}
		sent += runs
		if c, err = s.Counters(); err != nil {
			t.Fatal(err)
		}
	}
	got := c.Policies["p"]
	if passed, dropped := got[policy.VerdictPass].Packets, got[policy.VerdictDrop].Packets; passed != burst || passed+dropped != sent {
		t.Errorf("%d passed and %d dropped of %d, with %d samples lost; want %d passed", passed, dropped, sent, c.EventsLost, burst)
	}
}

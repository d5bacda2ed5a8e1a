package top

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// spoofed is the worst there is: every event is of somebody new, who takes over a counter in each ranking.
func spoofed(n int) loader.Event {
	e := event(0, float64(n)/2000, policy.VerdictShadowDrop, 10)
	var address [4]byte // a slice would be an allocation of this function's own
	binary.BigEndian.PutUint32(address[:], rand.Uint32())
	e.Source = netip.AddrFrom4(address)
	return e
}

// A flood of invented sources makes no work for the collector of garbage.
func TestEventsAllocateNothing(t *testing.T) {
	top := heard(t)
	n := 0
	if allocs := testing.AllocsPerRun(10_000, func() {
		top.add(spoofed(n))
		n++
	}); allocs != 0 {
		t.Errorf("%v allocations for each event", allocs)
	}
}

func BenchmarkEvent(b *testing.B) {
	r := newRig(0)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		r.add(spoofed(n))
	}
}

func BenchmarkReport(b *testing.B) {
	r := newRig(0)
	r.Top.begin()
	for n := range 10_000 {
		r.add(spoofed(n))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Report(boot+5*time.Second, Query{}); err != nil {
			b.Fatal(err)
		}
	}
}

package netns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// expectCounts compares a policy's counters of packets.
func (r *rig) expectCounts(name string, want map[policy.Verdict]uint64) {
	r.Helper()
	got := r.counters().Policies[name]
	for _, v := range []policy.Verdict{policy.VerdictPass, policy.VerdictDrop, policy.VerdictShadowDrop} {
		if got[v].Packets != want[v] {
			r.Errorf("%s: %s %d packets, want %d", name, v, got[v].Packets, want[v])
		}
	}
}

func TestShadowCountsAndDropsNothing(t *testing.T) {
	const burst, count = 30, 5000 // too small a burst for a CPU to lease of: what one leases, and another CPU gets, is missed
	r := newRig(t, lab.PairSpec{})
	r.attach("native", fmt.Sprintf("limit: 1, window: 1h, burst: %d, mode: shadow", burst))
	sniffer := r.sniff()
	r.flood(lab.Load{Rate: 50_000, Count: count}, r.frame(r.A.IPv4, nil))
	r.arrivals(sniffer, count)
	r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: burst, policy.VerdictShadowDrop: count - burst})
}

// A policy in shadow sees what the enforcing ones let through.
func TestShadowSeesWhatEnforcementLeaves(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	r.attach("native",
		"name: trial, limit: 1, window: 1h, burst: 10, mode: shadow",
		"name: real, limit: 1, window: 1h, burst: 30")
	sniffer := r.sniff()
	r.flood(lab.Load{Rate: 50_000, Count: 100}, r.frame(r.A.IPv4, nil))
	r.arrivals(sniffer, 30)
	r.expectCounts("real", map[policy.Verdict]uint64{policy.VerdictPass: 30, policy.VerdictDrop: 70})
	r.expectCounts("trial", map[policy.Verdict]uint64{policy.VerdictPass: 10, policy.VerdictShadowDrop: 20})
}

// Two neighbours of a /24 with 20 each and 30 together: the first takes its 20, the second the 10 that are left. What
// is denied to one policy's bucket is given back to the others', so the order of the policies makes no difference. The
// bursts are too small for CPUs to lease any of them.
func TestTheStrictestPolicyDecides(t *testing.T) {
	address := "name: address, limit: 1, window: 1h, burst: 20"
	network := "name: network, limit: 1, window: 1h, burst: 30, ipv4_prefix: 24"
	for name, policies := range map[string][]string{
		"address first": {address + ", priority: 2", network},
		"network first": {address, network + ", priority: 2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach("native", policies...)
			sniffer := r.sniff()
			first, second := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
			r.flood(lab.Load{Rate: 50_000, Count: 1000}, r.frame(first, nil))
			r.flood(lab.Load{Rate: 50_000, Count: 1000}, r.frame(second, nil))
			arrived := r.arrivals(sniffer, 30)
			if a, b := from(arrived, first), from(arrived, second); a != 20 || b != 10 {
				t.Errorf("%d and %d packets arrived, want 20 and 10", a, b)
			}
			r.expectCounts("address", map[policy.Verdict]uint64{policy.VerdictPass: 30, policy.VerdictDrop: 980})
			r.expectCounts("network", map[policy.Verdict]uint64{policy.VerdictPass: 30, policy.VerdictDrop: 990})
			for _, b := range []struct {
				policy string
				source netip.Addr
				want   uint64
			}{{"address", first, 20}, {"address", second, 10}, {"network", first, 30}} {
				if n := r.used(b.policy, b.source); n != b.want {
					t.Errorf("%s of %v: used %d, want %d", b.policy, b.source, n, b.want)
				}
			}
		})
	}
}

// A packet limit and a byte limit at once, both of which flow: of small packets the first is the stricter one, of
// large ones the second.
func TestPacketsAndBytesTogether(t *testing.T) {
	for _, test := range []struct {
		name    string
		payload int
		decides string
	}{{"small packets", 18, "packets"}, {"large packets", 1400, "bytes"}} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach("native",
				"name: packets, limit: 1000, window: 1s, burst: 100",
				"name: bytes, limit: 500000, window: 1s, burst: 50000, unit: bytes")
			sniffer := r.sniff()
			frame := r.frame(r.A.IPv4, func(f *lab.Frame) { f.Payload = make([]byte, test.payload) })
			f := r.flood(lab.Load{Duration: time.Second}, frame)
			passed := r.counters().Policies["packets"][policy.VerdictPass].Packets
			arrived := from(r.arrivals(sniffer, passed), r.A.IPv4)
			rate, burst, cost := 1000.0, uint64(100), uint64(1)
			if test.decides == "bytes" {
				rate, burst, cost = 500_000, 50_000, uint64(len(frame))
			}
			r.expectRate(f, arrived, rate, burst, cost)
			for _, name := range []string{"packets", "bytes"} {
				want := map[policy.Verdict]uint64{policy.VerdictPass: passed}
				if name == test.decides {
					want[policy.VerdictDrop] = f.sent() - passed
				}
				r.expectCounts(name, want)
			}
		})
	}
}

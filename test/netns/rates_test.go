package netns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

var tagged = map[int][]lab.VLAN{
	0: nil,
	1: {{ID: 7}},
	2: {{TPID: lab.TPIDService, ID: 100}, {ID: 7, Priority: 3}},
}

// One source over IPv4 and one over IPv6 flood at the same time; each gets burst + rate * t.
func TestAFloodingSourceGetsBurstPlusRate(t *testing.T) {
	for _, test := range []struct {
		rate, burst uint64
		tags        int
		mode        string
	}{
		// The burst is 50 ms of the rate or more, so that the flood's own pauses cost it nothing.
		{10, 1, 0, "native"},
		{10, 10, 2, "generic"},
		{100, 5, 1, "native"},
		{100, 100, 0, "generic"},
		{1000, 50, 2, "native"},
		{1000, 200, 1, "generic"},
		{20_000, 1000, 0, "native"},
		{20_000, 1000, 1, "native"},
		{20_000, 1000, 2, "native"},
		{20_000, 20_000, 0, "generic"},
		{20_000, 20_000, 2, "generic"},
		// Small bursts: here a pause costs tokens, and it is the upper bound that counts.
		{1000, 1, 1, "native"},
		{20_000, 20, 0, "generic"},
		{1_000_000, 1, 2, "native"},
	} {
		t.Run(fmt.Sprintf("%d/s burst %d tags %d %s", test.rate, test.burst, test.tags, test.mode), func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach(test.mode, fmt.Sprintf("limit: %d, burst: %d, window: 1s", test.rate, test.burst))
			r.expectBothFamilies(floodTime(test.rate), test.tags, float64(test.rate), test.burst, "requests")
			if mode := r.attached().Mode; mode != test.mode {
				t.Errorf("status says mode %q, want %q", mode, test.mode)
			}
		})
	}
}

// floodTime is long enough for a slow limit to give some tokens.
func floodTime(rate uint64) time.Duration {
	if rate <= 10 {
		return 2 * time.Second
	}
	return time.Second
}

func TestBytesAreTheFramesWhole(t *testing.T) {
	for _, mode := range []string{"native", "generic"} {
		for tags := range 3 {
			t.Run(fmt.Sprintf("%s tags %d", mode, tags), func(t *testing.T) {
				r := newRig(t, lab.PairSpec{})
				r.attach(mode, "limit: 1000000, burst: 100000, window: 1s, unit: bytes")
				r.expectBothFamilies(time.Second, tags, 1e6, 100_000, "bytes")
			})
		}
	}
}

// expectBothFamilies floods, and holds rate and counters of each family.
func (r *rig) expectBothFamilies(d time.Duration, tags int, rate float64, burst uint64, unit policy.Unit) {
	r.Helper()
	sniffer := r.sniff()
	sources := []netip.Addr{r.A.IPv4, r.A.IPv6}
	var frames [][]byte
	for _, source := range sources {
		frames = append(frames, r.frame(source, func(f *lab.Frame) { f.VLANs = tagged[tags] }))
	}
	f := r.flood(lab.Load{Duration: d}, frames...)
	counters := r.counters().Policies["p0"]
	arrived := r.arrivals(sniffer, counters[policy.VerdictPass].Packets)
	var bytes uint64
	for i, source := range sources {
		key := lab.FrameKey{Source: source}
		for j, v := range tagged[tags] {
			*[]*uint16{&key.Outer, &key.Inner}[j] = v.ID
		}
		cost, length := uint64(1), uint64(len(frames[i]))
		if unit == policy.UnitBytes {
			cost = length
		}
		r.expectRate(f, arrived[key], rate, burst, cost)
		bytes += arrived[key] * length
	}
	if n := counters[policy.VerdictPass].Bytes; n != bytes {
		r.Errorf("status counts %d bytes passed, %d arrived", n, bytes)
	}
}

// A limit above what the host can send costs nobody a packet.
func TestALimitAboveTheLoadDropsNothing(t *testing.T) {
	for _, mode := range []string{"native", "generic"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach(mode, "limit: 1000000, burst: 100000, window: 1s")
			f := r.flood(lab.Load{Duration: time.Second}, r.frame(r.A.IPv4, nil), r.frame(r.A.IPv6, nil))
			counters := r.counters().Policies["p0"]
			t.Logf("sent %d in %v", f.sent(), f.end.Sub(f.start))
			if n := counters[policy.VerdictDrop].Packets; n > 0 {
				t.Errorf("dropped %d of %d", n, f.sent())
			}
		})
	}
}

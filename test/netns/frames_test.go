package netns

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// What has no source that could be charged passes, and is counted by reason; in both modes, off a real cable.
func TestUnparsedFramesPassAndAreCounted(t *testing.T) {
	const each = 50
	for _, mode := range []string{"native", "generic"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach(mode, "limit: 1, window: 1h, burst: 1")
			sniffer := r.sniff()
			v4, v6 := r.frame(r.A.IPv4, nil), r.frame(r.A.IPv6, nil)
			tags := r.frame(r.A.IPv4, func(f *lab.Frame) { f.VLANs = tagged[2] })
			frames := []struct {
				frame  []byte
				reason string
			}{
				{r.ethernet(0x0806, make([]byte, 46)), "not_ip"}, // ARP
				{r.ethernet(0x88cc, make([]byte, 46)), "not_ip"}, // LLDP
				{v4[:14], "truncated"},
				{v4[:14+19], "truncated"},
				{v6[:14+39], "truncated"},
				{tags[:14+3], "truncated"},
				{tags[:14+8], "truncated"},
				{slices.Concat(tags[:12], []byte{0x88, 0xa8, 0, 1}, tags[12:]), "vlan_depth"},
				{r.ethernet(0x0800, v6[14:]), "bad_header"},
				{r.ethernet(0x86dd, v4[14:]), "bad_header"},
				{r.neighborSolicitation(v6), "neighbor_discovery"},
			}
			want, total := map[string]uint64{}, uint64(0)
			var burst [][]byte
			for _, f := range frames {
				burst = append(burst, slices.Repeat([][]byte{f.frame}, each)...)
				want[f.reason] += each
				total += each
			}
			if err := lab.Inject(r.within(limit), r.A, 50_000, burst...); err != nil {
				t.Fatal(err)
			}
			r.awaitSeen(total)
			a := r.attached()
			for _, reason := range []string{"truncated", "not_ip", "vlan_depth", "bad_header", "neighbor_discovery"} {
				if a.Unparsed[reason] != want[reason] {
					t.Errorf("%s: %d, want %d", reason, a.Unparsed[reason], want[reason])
				}
			}
			r.expectCounts("p0", map[policy.Verdict]uint64{})
			// The stack itself throws away a frame that ends in a VLAN tag, before the sniffer.
			r.arrivals(sniffer, total-each)
		})
	}
}

// ethernet is a frame of any type.
func (r *rig) ethernet(etherType uint16, payload []byte) []byte {
	return slices.Concat(strangerMAC, r.A.MAC, binary.BigEndian.AppendUint16(nil, etherType), payload)
}

// neighborSolicitation makes one of an IPv6 frame, as far as weir looks at it.
func (r *rig) neighborSolicitation(v6 []byte) []byte {
	b := slices.Clone(v6)
	b[14+6], b[14+7], b[14+40] = 58, 255, 135
	return b
}

// Random bytes of every length behind a plausible EtherType: each frame is decided on and counted once, and the limiter
// works on as before.
func TestGarbageHarmsNothing(t *testing.T) {
	const count = 20_000
	for _, mode := range []string{"native", "generic"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach(mode, "limit: 1, window: 1h, burst: 10", "limit: 1, window: 1h, burst: 2000, unit: bytes, ipv4_prefix: 1")
			sniffer := r.sniff()
			random := rand.NewChaCha8([32]byte{1})
			dice := rand.New(random)
			types := []uint16{0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806}
			frames := make([][]byte, count)
			for i := range frames {
				payload := make([]byte, 6+dice.IntN(1490)) // a frame that ends in a VLAN tag never reaches the sniffer
				_, _ = random.Read(payload)
				if i%2 == 0 {
					payload[0] = []byte{0x45, 0x60}[i/2%2] // a version that fits half of the time
				}
				frames[i] = r.ethernet(types[dice.IntN(len(types))], payload)
			}
			if err := lab.Inject(r.within(limit), r.A, 100_000, frames...); err != nil {
				t.Fatal(err)
			}
			r.awaitSeen(count)
			c := r.counters()
			t.Logf("unparsed %v, policies %v", c.Unparsed, c.Policies)
			var dropped uint64
			for _, p := range c.Policies {
				dropped += p[policy.VerdictDrop].Packets
			}
			r.arrivals(sniffer, count-dropped)

			r.flood(lab.Load{Rate: 10_000, Count: 100}, r.frame(r.A.IPv6, nil))
			if n := r.counters().Policies["p0"][policy.VerdictPass].Packets - c.Policies["p0"][policy.VerdictPass].Packets; n != 10 {
				t.Errorf("%d packets of a new source passed, want its burst of 10", n)
			}
		})
	}
}

package netns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Every source has a bucket of its own: 1000 of them send a number of packets each at once. At one token per hour, a
// bucket gives its burst and no more however long that takes.
func TestEverySourceHasItsOwnBucket(t *testing.T) {
	const sources, burst = 1000, 20
	for _, test := range []struct {
		name       string
		each, want uint64
	}{
		{"within the limit nothing is dropped", burst, burst},
		{"over the limit each gets its burst", 3 * burst, burst},
	} {
		for _, family := range []string{"IPv4", "IPv6"} {
			t.Run(family+" "+test.name, func(t *testing.T) {
				r := newRig(t, lab.PairSpec{})
				r.attach("native", fmt.Sprintf("limit: 1, window: 1h, burst: %d", burst))
				sniffer := r.sniff()
				r.flood(lab.Load{Rate: 100_000, Count: sources * test.each}, r.framesOf(family, sources)...)
				arrived := r.arrivals(sniffer, sources*test.want)
				for key, n := range arrived {
					if n != test.want {
						t.Errorf("%v: %d packets arrived, want %d", key, n, test.want)
					}
				}
				if s := r.status(); s.Table.Claimed != sources || s.Table.Owing != sources || s.Table.Pressure != 0 {
					t.Errorf("table %+v, want %d claimed and owing, without pressure", *s.Table, sources)
				}
			})
		}
	}
}

// Sources of one prefix share a bucket, and those of the next have another.
func TestAPrefixSharesOneBucket(t *testing.T) {
	const burst = 20 // too small for CPUs to lease any of it
	for _, test := range []struct {
		name, policy string
		from, to     []string // groups of sources: which of them share
		buckets      uint64
	}{
		{"IPv4 /32", "ipv4_prefix: 32", []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"}, nil, 3},
		{"IPv4 /24", "ipv4_prefix: 24", []string{"198.51.100.1", "198.51.100.254"}, []string{"198.51.101.1", "198.51.101.2"}, 2},
		{"IPv6 /64", "ipv6_prefix: 64", []string{"2001:db8:1::1", "2001:db8:1:0:ffff::2"}, []string{"2001:db8:1:1::1"}, 2},
		{"IPv6 /48", "ipv6_prefix: 48", []string{"2001:db8:1::1", "2001:db8:1:ffff::2"}, []string{"2001:db8:2::1"}, 2},
		{"IPv6 /128", "ipv6_prefix: 128", []string{"2001:db8:1::1", "2001:db8:1::2", "2001:db8:1:0:8000::1"}, nil, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach("native", fmt.Sprintf("limit: 1, window: 1h, burst: %d, %s", burst, test.policy))
			sniffer := r.sniff()
			var frames [][]byte
			for _, source := range append(append([]string{}, test.from...), test.to...) {
				frames = append(frames, r.frame(netip.MustParseAddr(source), nil))
			}
			f := r.flood(lab.Load{Rate: 20_000, Count: 200 * uint64(len(frames))}, frames...)
			arrived := r.arrivals(sniffer, test.buckets*burst)
			if test.to == nil {
				for key, n := range arrived {
					if n != burst {
						t.Errorf("%v: %d of %d packets arrived, want a bucket of %d for each", key, n, f.sent(), burst)
					}
				}
				return
			}
			for _, group := range [][]string{test.from, test.to} {
				var n uint64
				for _, source := range group {
					n += from(arrived, netip.MustParseAddr(source))
				}
				if n != burst {
					t.Errorf("%v: %d packets arrived, want %d for all of them", group, n, burst)
				}
			}
		})
	}
}

// A flood from a million invented sources costs a client within its limit nothing, and does not help one that is
// over it. The table has room for its debts: no entry that owes is pushed out.
func TestASpoofedFloodHelpsAndHurtsNobody(t *testing.T) {
	const rate, burst, forged = 1000, 100, 1_000_000
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach("native", fmt.Sprintf("limit: %d, window: 1s, burst: %d", rate, burst))
			aggressor := r.address(family)
			good := aggressor.Next().Next().Next() // not in the flood, as it is of the lab's network
			if family == "IPv6" {
				good = netip.MustParseAddr("2001:db8:0:1::7") // of a /64 of its own
			}
			// Both go to a socket of host B, as a sniffer can't keep up with the flood.
			sink, err := lab.NewUDPSink(r.B, 7, aggressor, good)
			if err != nil {
				t.Fatal(err)
			}
			r.background(sink.Run)
			spoofed := &lab.Flood{Host: r.stranger(), Target: r.target(aggressor), Payload: 18, Seed: 1, Load: lab.Load{Duration: limit}}
			over := r.client(aggressor, lab.Load{Rate: 20_000, Duration: limit})
			within := r.client(good, lab.Load{Rate: withinLimit, Duration: limit})

			start := time.Now()
			stopOver, stopWithin := r.background(over.Run), r.background(within.Run)
			stopSpoofed := r.background(spoofed.Run)
			r.await("the flood has sent its million", func() bool { return spoofed.Sent() >= forged })
			stopSpoofed()
			stopOver()
			stopWithin()
			sent := spoofed.Sent() + over.Sent() + within.Sent()
			r.awaitSeen(sent)
			most := burst + rate*time.Since(start).Seconds()

			c := r.counters()
			dropped := c.Policies["p0"][policy.VerdictDrop].Packets
			if err := sink.Await(r.within(limit), over.Sent()-dropped+within.Sent()); err != nil {
				t.Error(err)
			}
			if n, err := sink.Overflowed(); n > 0 || err != nil {
				t.Errorf("the socket overflowed by %d: %v", n, err)
			}
			got := sink.From(aggressor).Packets
			t.Logf("%d forged in %v, aggressor %d of %d (at most %.1f), good client %d of %d",
				spoofed.Sent(), time.Since(start).Round(time.Millisecond), got, over.Sent(), most, sink.From(good).Packets, within.Sent())
			if n := sink.From(good).Packets; n != within.Sent() {
				t.Errorf("%d of the good client's %d packets arrived", n, within.Sent())
			}
			if float64(got) > most+3 {
				t.Errorf("%d of the aggressor's packets arrived, want %.1f at most", got, most)
			}
			if dropped != over.Sent()-got {
				t.Errorf("dropped %d packets, want the aggressor's %d alone", dropped, over.Sent()-got)
			}
			if c.Pressure != 0 {
				t.Errorf("pressure %d, want none", c.Pressure)
			}
		})
	}
}

// With debts that last for hours and four times the sources that fit, the table fills: what happens to those without
// an entry is the policy's choice, and each of their packets counts as pressure.
func TestAFullTableDoesWhatThePolicySays(t *testing.T) {
	const entries, sources = 1024, 4096
	for _, onPressure := range []policy.Pressure{policy.PressurePass, policy.PressureDrop} {
		t.Run(string(onPressure), func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.mustWeir("attach", r.B.Interface, "-c", r.configWith(fmt.Sprintf("table: {entries: %d}", entries),
				fmt.Sprintf("limit: 1, window: 1h, burst: 1, on_pressure: %s", onPressure)))
			r.flood(lab.Load{Rate: 50_000, Count: sources}, r.framesOf("IPv4", sources)...)
			s := r.status()
			counters := s.Attachments[0].Policies[0].Counters
			pressed := uint64(sources - s.Table.Claimed)
			t.Logf("claimed %d of %d, pressure %d, %+v", s.Table.Claimed, s.Table.Capacity, s.Table.Pressure, counters)
			if s.Table.Pressure != pressed || s.Attachments[0].Pressure != pressed {
				t.Errorf("pressure %d, want %d: a packet of every source that found no free entry", s.Table.Pressure, pressed)
			}
			want := uint64(0)
			if onPressure == policy.PressureDrop {
				want = pressed
			}
			if n := counters[policy.VerdictDrop].Packets; n != want || pressed < sources-entries {
				t.Errorf("dropped %d, want %d, which is at least %d", n, want, sources-entries)
			}
		})
	}
}

// framesOf are frames from n sources of a family, each of a network of its own.
func (r *rig) framesOf(family string, n int) (frames [][]byte) {
	r.Helper()
	for i := range n {
		source := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		if family == "IPv6" {
			source = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 1, 0, byte(i >> 8), byte(i), 15: 1})
		}
		frames = append(frames, r.frame(source, nil))
	}
	return frames
}

// stranger is host A, sending to an address of the link layer that nobody has; see strangerMAC.
func (r *rig) stranger() *lab.Host {
	h := *r.A
	h.NextHop = strangerMAC
	return &h
}

// address is host A's of a family.
func (r *rig) address(family string) netip.Addr {
	if family == "IPv4" {
		return r.A.IPv4
	}
	return r.A.IPv6
}

// withinLimit is how many packets a second a client sends that keeps to a limit of 1000. One that was kept from running makes up
// for it, by a packet a millisecond at this rate, and so keeps to the limit even then.
const withinLimit = 250

// client sends datagrams from a source to port 7 of host B, and loses none on the way out.
func (r *rig) client(source netip.Addr, load lab.Load) *lab.Injector {
	frame := r.frame(source, func(f *lab.Frame) { f.DstMAC, f.DstPort = r.B.MAC, 7 })
	return &lab.Injector{Host: r.A, Next: lab.Cycle(frame), Load: load, Retry: true}
}

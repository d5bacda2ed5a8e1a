package progrun

import (
	"testing"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// headers of a UDP datagram over IPv4, each segment's own.
const udpHeaders = 14 + 20 + 8

// joined is a UDP packet that stands for so many of 100 bytes of payload each.
func (p *tcProgram) joined(segments int) ([]byte, skb) {
	p.Helper()
	f := udp("192.0.2.1")
	f.Payload = make([]byte, segments*100)
	return p.bytes(f), skb{Segments: uint32(segments), Size: 100}
}

// What stands for several packets costs as many tokens.
func TestTCJoinedPacketsAreCharged(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		s := loadTC(t, hook, 1024, slow("p", 10))
		frame, as := s.joined(4)
		if got := s.passedAs(5, frame, as); got != 2 {
			t.Errorf("%d of 5 passed, want the 2 whose 8 packets fit into 10", got)
		}
		if got := s.passed(5, s.bytes(udp("192.0.2.1"))); got != 2 {
			t.Errorf("%d single packets passed, want the 2 that were left", got)
		}
		n := s.counted("p")
		size := uint64(len(s.bytes(udp("192.0.2.1"))))
		if want := (loader.Count{Packets: 10, Bytes: 8*(udpHeaders+100) + 2*size}); n[policy.VerdictPass] != want {
			t.Errorf("passed %+v, want %+v", n[policy.VerdictPass], want)
		}
		if want := (loader.Count{Packets: 3*4 + 3, Bytes: 12*(udpHeaders+100) + 3*size}); n[policy.VerdictDrop] != want {
			t.Errorf("dropped %+v, want %+v", n[policy.VerdictDrop], want)
		}
	})
}

// One that alone is more than a bucket holds empties it, or nothing of its stream would ever pass; in packets and in bytes.
func TestTCJoinedPacketsLargerThanTheBurst(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		for unit, burst := range map[policy.Unit]uint64{policy.UnitRequests: 10, policy.UnitBytes: 2000} {
			p := slow("p", burst)
			p.Unit = unit
			s := loadTC(t, hook, 1024, p)
			frame, as := s.joined(24) // of 2400 bytes: a test run takes a page at most
			if got := s.passedAs(3, frame, as); got != 1 {
				t.Errorf("%s: %d of 3 passed, want the first", unit, got)
			}
			if b := s.bucketOf("192.0.2.1"); b.Tokens != 0 || b.Used != uint32(burst) {
				t.Errorf("%s: bucket %+v, want it empty, with %d used", unit, b, burst)
			}
			if n := s.counted("p")[policy.VerdictPass]; n != (loader.Count{Packets: 24, Bytes: 24 * (udpHeaders + 100)}) {
				t.Errorf("%s: counted %+v, want all 24 packets", unit, n)
			}
			f := udp("192.0.2.2")
			f.Payload = make([]byte, 2400)
			if got, want := s.passed(1, s.bytes(f)), map[policy.Unit]int{policy.UnitRequests: 1}[unit]; got != want {
				t.Errorf("%s: of one packet, of 2442 bytes, %d passed, want %d of a burst of %d", unit, got, want, burst)
			}
		}
	})
}

// A joined packet in a VLAN, whose tag is in its bytes: every segment has it.
func TestTCJoinedPacketsInAVLAN(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		s := loadTC(t, hook, 1024, slow("p", 100))
		f := udp("192.0.2.1", lab.VLAN{ID: 7})
		f.Payload = make([]byte, 300)
		s.passedAs(1, s.bytes(f), skb{Segments: 3, Size: 100})
		if n := s.counted("p")[policy.VerdictPass]; n != (loader.Count{Packets: 3, Bytes: 3 * (udpHeaders + 4 + 100)}) {
			t.Errorf("counted %+v", n)
		}
	})
}

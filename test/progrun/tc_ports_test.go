package progrun

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// fragment makes a later one of a datagram over IPv4, or over IPv6, which takes an extension header.
func fragment(frame []byte) []byte {
	if frame[12] == 0x08 {
		b := slices.Clone(frame)
		binary.BigEndian.PutUint16(b[14+6:], 185) // 1480 bytes are before it
		return b
	}
	return extend(frame, 44, []byte{0, 0, 1480 >> 8, 1480 & 0xf8, 0, 0, 0, 7})
}

// extend puts an IPv6 extension header before what is behind the IP header. Its first byte is filled in.
func extend(frame []byte, number byte, header []byte) []byte {
	b := slices.Insert(slices.Clone(frame), 54, header...)
	b[54], b[20] = b[20], number
	binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
	return b
}

// Whose port can't be read is passed by, or dropped, as the policy that asks for it says; one that asks for none charges it.
func TestTCFragments(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		for _, tt := range []struct {
			choice policy.Fragment
			port   bool
			passed int
		}{
			{policy.FragmentPass, true, 5},
			{policy.FragmentDrop, true, 0},
			{policy.FragmentPass, false, 2},
		} {
			p := slow("p", 2)
			p.OnFragment = tt.choice
			if tt.port {
				p.Match.Protocol, p.Match.Ports = "udp", []policy.PortRange{{First: 2, Last: 2}}
			}
			s := loadTC(t, hook, 1024, p)
			for i, source := range []string{"192.0.2.1", "2001:db8::1"} {
				if got := s.passed(5, fragment(s.bytes(udp(source)))); got != tt.passed {
					t.Errorf("%s %+v: %d of 5 passed", source, tt, got)
				}
				if n, want := s.counters().Unparsed["later_fragment"], uint64(5*(i+1)); tt.port && n != want {
					t.Errorf("%s %+v: %d counted as later fragments, want %d", source, tt, n, want)
				}
				if got := s.passed(5, s.bytes(udp(source))); tt.port && got != 2 {
					t.Errorf("%s %+v: %d whole packets passed, want 2", source, tt, got)
				}
			}
		}
	})
}

// The ports are found behind six extension headers, and are hidden by a seventh.
func TestTCExtensionHeaders(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		p := slow("p", 2)
		p.Match.Protocol, p.Match.Ports = "udp", []policy.PortRange{{First: 2, Last: 2}}
		s := loadTC(t, hook, 1024, p)
		for headers := range 8 {
			frame := s.bytes(udp(fmt.Sprintf("2001:db8:0:%d::1", headers)))
			for range headers {
				frame = extend(frame, 60, make([]byte, 8)) // destination options
			}
			passed, hidden := s.passed(5, frame), s.counters().Unparsed["extension_depth"]
			if headers <= 6 && (passed != 2 || hidden != 0) {
				t.Errorf("%d extension headers: %d of 5 passed, want 2; %d not walked", headers, passed, hidden)
			}
			if headers > 6 && (passed != 5 || hidden != 5) {
				t.Errorf("%d extension headers: %d of 5 passed, and %d were not walked, want all", headers, passed, hidden)
			}
		}
	})
}

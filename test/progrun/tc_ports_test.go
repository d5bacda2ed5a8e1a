package progrun

import (
	"encoding/binary"
	"fmt"
	"net/netip"
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
		var all []policy.Policy
		for name, of := range map[string]struct {
			choice  policy.Fragment
			port    bool
			sources []string
		}{
			"passes":   {policy.FragmentPass, true, []string{"192.0.2.0/24", "2001:db8:1::/48"}},
			"drops":    {policy.FragmentDrop, true, []string{"198.51.100.0/24", "2001:db8:2::/48"}},
			"portless": {policy.FragmentPass, false, []string{"203.0.113.0/24", "2001:db8:3::/48"}},
		} {
			p := slow(name, 2)
			p.OnFragment = of.choice
			if of.port {
				p.Match.Protocol, p.Match.Ports = "udp", []policy.PortRange{{First: 2, Last: 2}}
			}
			for _, source := range of.sources {
				p.Match.Sources = append(p.Match.Sources, netip.MustParsePrefix(source))
			}
			all = append(all, p)
		}
		s := loadTC(t, hook, 1024, all...)
		for i, tt := range []struct {
			source            string
			fragments, wholes int // of 5 each, that pass
		}{
			{"192.0.2.1", 5, 2}, {"2001:db8:1::1", 5, 2},
			{"198.51.100.1", 0, 2}, {"2001:db8:2::1", 0, 2},
			{"203.0.113.7", 2, 0}, {"2001:db8:3::1", 2, 0}, // the fragments took what there was
		} {
			if got := s.passed(5, fragment(s.bytes(udp(tt.source)))); got != tt.fragments {
				t.Errorf("%s: %d of 5 fragments passed, want %d", tt.source, got, tt.fragments)
			}
			if n, want := s.counters().Unparsed["later_fragment"], uint64(5*(i+1)); n != want {
				t.Errorf("%s: %d are counted as later fragments, want %d", tt.source, n, want)
			}
			if got := s.passed(5, s.bytes(udp(tt.source))); got != tt.wholes {
				t.Errorf("%s: %d of 5 whole packets passed, want %d", tt.source, got, tt.wholes)
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

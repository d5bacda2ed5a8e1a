package policy

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute,
		"1d": day, "30d": 30 * day, "1d12h": 36 * time.Hour, "0": 0, "0s": 0, "0d": 0,
		"106751d": 106751 * day, "106751d23h47m16.854775807s": 1<<63 - 1,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "d", "1", "s", "-1s", "-1d", "1d-1h", "1.5d", "1dd", "1d1", "12h1d", "1 d", "106752d", "99999999999999999999d",
		"106751d23h47m16.854775808s", "9999999h", "one day",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: accepted as %v", text, got)
		}
	}
}

// TestDurationNeverWraps adds days and hours up to the edge of an int64.
func TestDurationNeverWraps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.Uint64Range(0, 110_000).Draw(t, "days")
		hours := rapid.Uint64Range(0, 3_000_000).Draw(t, "hours")
		got, err := ParseDuration(fmt.Sprintf("%dd%dh", days, hours))
		fits := days*24+hours <= uint64((1<<63-1)/time.Hour)
		if fits != (err == nil) || fits && got != time.Duration(days*24+hours)*time.Hour {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "192.0.2.0/24": "192.0.2.0/24", "0.0.0.0/0": "0.0.0.0/0",
		"2001:db8::1": "2001:db8::1/128", "2001:db8::/32": "2001:db8::/32", "::/0": "::/0",
	} {
		if got, err := ParsePrefix(text); err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2", "2001:db8::1/32", "fe80::1%eth0", "::ffff:192.0.2.1",
		"::ffff:192.0.2.0/120", "example.org", "192.0.2.0 /24", "192.0.2.0/024",
	} {
		if got, err := ParsePrefix(text); err == nil {
			t.Errorf("%q: accepted as %v", text, got)
		}
	}
}

func TestParsePorts(t *testing.T) {
	for text, want := range map[string]PortRange{"1": {1, 1}, "65535": {65535, 65535}, "8000-8100": {8000, 8100}, "53-53": {53, 53}} {
		if got, err := ParsePorts(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-", "0", "0-5", "65536", "2-1", "1-2-3", "1-", "-1", "+1", "053", "1-010", "http", "1 -2"} {
		if got, err := ParsePorts(text); err == nil {
			t.Errorf("%q: accepted as %v", text, got)
		}
	}
}

// TestPortsReadBack also holds that what a range contains is what its text says.
func TestPortsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawPorts().Draw(t, "ports")
		port := rapid.Uint16().Draw(t, "port")
		if got, err := ParsePorts(r.String()); err != nil || got != r || got.Contains(port) != (port >= r.First && port <= r.Last) {
			t.Fatalf("%q is read as %v, %v", r, got, err)
		}
	})
}

func TestFormattedDurationReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(edges().Draw(t, "d") &^ (1 << 63))
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Fatalf("%s is read as %s, %v", FormatDuration(d), got, err)
		}
	})
}

func TestProtocols(t *testing.T) {
	for text, want := range map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136, "dccp": 33,
		"gre": 47, "esp": 50, "ah": 51, "igmp": 2, "ipip": 4, "ospf": 89, "0": 0, "17": 17, "254": 254} {
		if got, ok := ProtocolNumber(text); !ok || got != want {
			t.Errorf("%q: got %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "TCP", "255", "256", "-1", "+6", "06", "0x6", "6 ", "quic"} {
		if got, ok := ProtocolNumber(text); ok {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
	for n := range MaxProtocol + 1 {
		if got, ok := ProtocolNumber(ProtocolName(uint8(n))); !ok || got != uint8(n) {
			t.Errorf("%d is called %q, which is %d, %v", n, ProtocolName(uint8(n)), got, ok)
		}
	}
	for number, want := range map[uint8]bool{6: true, 17: true, 33: true, 132: true, 136: true, 1: false, 47: false, 50: false, 58: false} {
		if HasPorts(number) != want {
			t.Errorf("%d: got ports %v", number, !want)
		}
	}
}

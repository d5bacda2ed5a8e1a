package progrun

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Which remote ends share a bucket, as TestSourcesThatShareABucket has it of XDP.
func TestTCSourcesThatShareABucket(t *testing.T) {
	one, two := lab.VLAN{ID: 7}, lab.VLAN{TPID: lab.TPIDService, ID: 8}
	type pair struct {
		name   string
		a, b   lab.Frame
		shared bool
	}
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		for _, group := range []struct {
			v4, v6 uint8
			pairs  []pair // no two of them with a bucket in common
		}{
			{32, 64, []pair{
				{"the same IPv4 address", udp("192.0.2.1"), udp("192.0.2.1"), true},
				{"another IPv4 address", udp("192.0.2.2"), udp("192.0.2.3"), false},
				{"the same IPv6 /64", udp("2001:db8::1"), udp("2001:db8::ffff:1"), true},
				{"another IPv6 /64", udp("2001:db8:0:1::1"), udp("2001:db8:0:2::1"), false},
				{"IPv4 in a VLAN and without", udp("192.0.2.4"), udp("192.0.2.4", one), true},
				{"IPv4 in two VLANs and one", udp("192.0.2.5", two, one), udp("192.0.2.5", one), true},
				{"IPv6 in two VLANs and none", udp("2001:db8:0:3::1", two, one), udp("2001:db8:0:3::1"), true},
			}},
			{24, 128, []pair{
				{"the same IPv4 /24", udp("192.0.2.1"), udp("192.0.2.254"), true},
				{"another IPv4 /24", udp("192.0.3.1"), udp("192.0.4.1"), false},
				{"another IPv6 address", udp("2001:db8::1"), udp("2001:db8::2"), false},
			}},
			{32, 48, []pair{{"the same IPv6 /48", udp("2001:db8:1::1"), udp("2001:db8:1:ff::1"), true}}},
		} {
			p := slow("p", 3)
			p.IPv4Prefix, p.IPv6Prefix = group.v4, group.v6
			s := loadTC(t, hook, 1024, p)
			for _, tt := range group.pairs {
				if got := s.passed(2, s.bytes(tt.a)); got != 2 {
					t.Errorf("%s: %d of the first 2 packets passed", tt.name, got)
				}
				want := 3
				if tt.shared {
					want = 1
				}
				if got := s.passed(5, s.bytes(tt.b)); got != want {
					t.Errorf("%s: %d of 5 packets passed, want %d", tt.name, got, want)
				}
			}
		}
	})
}

// What goes out is charged to whom it goes to, and not to this host, which all of it comes from.
func TestTCEgressChargesTheRemoteEnd(t *testing.T) {
	s := loadTC(t, loader.HookTCEgress, 1024, slow("p", 3))
	for i := range 5 {
		out := lab.Frame{
			Src: netip.MustParseAddr("203.0.113.1"), Dst: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1)), SrcPort: 2, DstPort: 1,
		}
		if got := s.passed(5, bytesOf(t, out)); got != 3 {
			t.Errorf("%d of 5 packets to host %d passed, want its burst of 3", got, i)
		}
	}
	if b := s.bucketOf("192.0.2.5"); !b.Found || b.Used != 3 {
		t.Errorf("the bucket of the last one: %+v, want 3 used", b)
	}
	if b := s.bucketOf("203.0.113.1"); b.Found {
		t.Errorf("this host has a bucket: %+v", b)
	}
}

// What can't be charged passes, and is counted by its reason.
func TestTCUnparsed(t *testing.T) {
	frame := bytesOf(t, udp("192.0.2.1"))
	v6 := bytesOf(t, udp("2001:db8::1"))
	edit := func(frame []byte, change func([]byte)) []byte {
		b := append([]byte(nil), frame...)
		change(b)
		return b
	}
	tag := lab.VLAN{ID: 1}
	twice := bytesOf(t, udp("192.0.2.1", tag, tag))
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		for _, tt := range []struct {
			reason string
			frame  []byte
		}{
			{"truncated", twice[:40]}, // a test run wants an IP header whole where the frame says that it begins
			{"truncated", twice[:21]},
			{"not_ip", edit(frame, func(b []byte) { b[13] = 6 })},
			{"vlan_depth", edit(twice, func(b []byte) { b[20], b[21] = 0x81, 0 })},
			{"bad_header", edit(frame, func(b []byte) { b[14] = 0x65 })},
			{"bad_header", edit(v6, func(b []byte) { b[14] = 0x45 })},
			{"neighbor_discovery", edit(v6, func(b []byte) { b[20], b[21], b[54] = 58, 255, 135 })},
		} {
			s := loadTC(t, hook, 1024, slow("p", 1))
			if got := s.passed(5, tt.frame); got != 5 {
				t.Errorf("%s: %d of 5 packets passed", tt.reason, got)
			}
			c := s.counters()
			if c.Unparsed[tt.reason] != 5 {
				t.Errorf("%s: counted %v", tt.reason, c.Unparsed)
			}
			if n := c.Policies["p"][policy.VerdictPass].Packets; n != 0 {
				t.Errorf("%s: %d packets were charged", tt.reason, n)
			}
		}
	})
}

func TestTCCounters(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		enforced, watched := slow("enforced", 3), slow("watched", 2)
		watched.Mode = policy.ModeShadow
		s := loadTC(t, hook, 1024, enforced, watched)
		frame := s.bytes(udp("192.0.2.1"))
		size := uint64(len(frame))
		if got := s.passed(5, frame); got != 3 {
			t.Errorf("%d of 5 packets passed, want 3", got)
		}
		for name, want := range map[string]map[policy.Verdict]uint64{
			"enforced": {policy.VerdictPass: 3, policy.VerdictDrop: 2},
			"watched":  {policy.VerdictPass: 2, policy.VerdictShadowDrop: 1}, // of what it saw
		} {
			for verdict, n := range s.counted(name) {
				if n != (loader.Count{Packets: want[verdict], Bytes: want[verdict] * size}) {
					t.Errorf("%s %s: %+v, want %d packets of %d bytes", name, verdict, n, want[verdict], size)
				}
			}
		}
	})
}

// The strictest decides, and what it denies is charged to nobody else.
func TestTCSeveralPolicies(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		wide, narrow := slow("wide", 8), slow("narrow", 3)
		wide.IPv4Prefix = 24
		s := loadTC(t, hook, 1024, wide, narrow)
		for i, want := range []int{3, 3, 2} {
			if got := s.passed(10, s.bytes(udp(fmt.Sprintf("192.0.2.%d", i+1)))); got != want {
				t.Errorf("%d packets of source %d passed, want %d", got, i, want)
			}
		}
		n, w := s.counted("narrow"), s.counted("wide")
		if n[policy.VerdictPass] != w[policy.VerdictPass] || n[policy.VerdictPass].Packets != 8 ||
			n[policy.VerdictDrop].Packets+w[policy.VerdictDrop].Packets != 22 {
			t.Errorf("narrow counted %+v, wide %+v: want 8 passed by both and 22 dropped between them", n, w)
		}
	})
}

// Ports are the local ones: of what comes in the destination, of what goes out the source.
func TestTCPorts(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		p := slow("p", 1)
		p.Match.Protocol, p.Match.Ports = "udp", []policy.PortRange{{First: 53, Last: 53}, {First: 8000, Last: 8100}}
		s := loadTC(t, hook, 1024, p)
		for i, tt := range []struct {
			local, remote uint16
			protocol      uint8
			matches       bool
		}{
			{53, 1, lab.ProtocolUDP, true},
			{8000, 1, lab.ProtocolUDP, true},
			{8100, 1, lab.ProtocolUDP, true},
			{8101, 1, lab.ProtocolUDP, false},
			{1, 53, lab.ProtocolUDP, false},
			{53, 53, lab.ProtocolTCP, false},
		} {
			f := udp(fmt.Sprintf("192.0.2.%d", i+1))
			f.SrcPort, f.DstPort, f.Protocol = tt.remote, tt.local, tt.protocol
			want := 5
			if tt.matches {
				want = 1
			}
			if got := s.passed(5, s.bytes(f)); got != want {
				t.Errorf("%+v: %d of 5 packets passed, want %d", tt, got, want)
			}
		}
	})
}

// A table of one set: the fifth source finds four debts.
func TestTCPressure(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		for choice, want := range map[policy.Pressure]int{policy.PressurePass: 1, policy.PressureDrop: 0} {
			p := slow("p", 3)
			p.OnPressure = choice
			s := loadTC(t, hook, 4, p)
			for i := range 4 {
				s.passed(3, s.bytes(udp(fmt.Sprintf("192.0.2.%d", i+1))))
			}
			if got := s.passed(1, s.bytes(udp("192.0.2.9"))); got != want {
				t.Errorf("on_pressure %s: %d of 1 passed, want %d", choice, got, want)
			}
			if n := s.counters().Pressure; n != 1 {
				t.Errorf("on_pressure %s: pressure counted %d times, want once", choice, n)
			}
		}
	})
}

// Lists come before policies; on egress they name whom it goes to.
func TestTCLists(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		s := loadTCWith(t, loader.StandaloneOptions{
			Hook: hook, Policies: []policy.Policy{slow("p", 1)}, TableEntries: 1024,
			Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}, Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		})
		for source, want := range map[string]int{"192.0.2.1": 5, "192.0.2.16": 0, "198.51.100.1": 1} {
			if got := s.passed(5, s.bytes(udp(source))); got != want {
				t.Errorf("%s: %d of 5 packets passed, want %d", source, got, want)
			}
		}
	})
}

// The bucket that user space sees through the mapping is the one that the kernel charges.
func TestTCMappedBucket(t *testing.T) {
	onTCHooks(t, func(t *testing.T, hook loader.Hook) {
		s := loadTC(t, hook, 1024, slow("p", 5))
		s.passed(7, s.bytes(udp("2001:db8::1")))
		if got := s.bucketOf("2001:db8::1"); !got.Found || got.Tokens != 0 || got.Used != 5 || got.Next <= 0 || got.Next > 24*time.Hour {
			t.Errorf("%+v, want 5 used, none left, and a wait of a day at most", got)
		}
	})
}

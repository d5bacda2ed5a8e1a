package progrun

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/test/internal/bpfclock"
)

// scenario is a set of policies and lists, and what made it, which goes on to make packets and clocks.
type scenario struct {
	*choices
	hook     loader.Hook
	policies []policy.Policy
	lists    policy.Lists
	bans     map[netip.Prefix]uint64 // until when, in ns
	entries  int                     // of the table
	step     uint64                  // ns: packets are up to that far apart
	exact    uint64                  // ns: the time is
	jiffy    uint64                  // ns: how long one takes
	jiffies  uint64                  // at an exact time of 0
}

// The sources are few, so that they meet in buckets, prefixes and sets; and neighbours, so that prefixes matter.
var (
	sources4 = addresses("10.0.0.1", "10.0.0.2", "10.0.0.129", "10.0.1.1", "10.1.0.1", "10.128.0.1", "192.0.2.1", "192.0.2.2",
		"198.51.100.7", "0.0.0.1", "255.255.255.255", "172.16.5.4")
	sources6 = addresses("2001:db8::1", "2001:db8::2", "2001:db8::8000:0:0:1", "2001:db8:0:1::1", "2001:db8:0:8000::1",
		"2001:db8:1::1", "2001:db9::1", "fe80::1", "2a00::1", "2a00::2")
	ports = []uint16{1, 53, 80, 443, 1024, 8000, 8050, 8100, 65535}
)

func addresses(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func newScenario(c *choices, jiffy time.Duration) *scenario {
	s := &scenario{choices: c, jiffy: uint64(jiffy), jiffies: c.word() >> 8}
	s.hook = pick(c, []loader.Hook{loader.HookXDP, loader.HookTCIngress, loader.HookTCEgress})
	s.entries = pick(c, []int{4, 16, 64, 4096})
	s.step = pick(c, []uint64{100, 20_000, 300_000, 300_000, 3_000_000, 3_000_000, 40_000_000, uint64(2 * time.Second)})
	s.exact = 1 + c.word()>>pick(c, []int{0, 7, 8, 20}) // the ticks wrap at 2^56 ns
	for range 1 + c.below(1+c.below(12)) {              // few more often than many
		s.policies = append(s.policies, s.policy(len(s.policies)))
	}
	s.lists.Allow, s.lists.Deny = s.prefixes(4), s.prefixes(4)
	s.bans = map[netip.Prefix]uint64{}
	for _, prefix := range s.prefixes(3) {
		s.bans[prefix] = s.exact + uint64(c.below(500))*(s.step+1)
	}
	return s
}

func (s *scenario) outgoing() bool { return s.hook == loader.HookTCEgress }

// place is where the program is: on eth0.
func (s *scenario) place() policy.Place {
	place := policy.Place{Interface: "eth0", Direction: policy.DirectionIngress}
	if s.outgoing() {
		place.Direction = policy.DirectionEgress
	}
	return place
}

// prefixes are up to n around the sources, mostly none at all.
func (s *scenario) prefixes(n int) (out []netip.Prefix) {
	if !s.oneIn(3) {
		return nil
	}
	for range 1 + s.below(n) {
		if prefix := s.prefix(); !slices.Contains(out, prefix) {
			out = append(out, prefix)
		}
	}
	return out
}

func (s *scenario) prefix() netip.Prefix {
	address, bits := pick(s.choices, sources4), pick(s.choices, []int{0, 1, 8, 9, 16, 24, 25, 31, 32})
	if s.oneIn(2) {
		address, bits = pick(s.choices, sources6), pick(s.choices, []int{0, 3, 32, 48, 49, 64, 65, 127, 128})
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		panic(err) // the lists above fit their families
	}
	return prefix
}

func (s *scenario) policy(i int) policy.Policy {
	p := policy.Policy{
		Name: fmt.Sprintf("p%d", i), Layer: policy.LayerKernel,
		Scope: pick(s.choices, []policy.Scope{policy.ScopePerIP, policy.ScopePerIP, policy.ScopePerEndpoint, policy.ScopeGlobal}),
		Mode: pick(s.choices, []policy.Mode{policy.ModeEnforce, policy.ModeEnforce, policy.ModeEnforce, policy.ModeEnforce,
			policy.ModeShadow, policy.ModeShadow, policy.ModeOff}),
		Priority: s.below(4), OnPressure: pick(s.choices, policy.Pressures()),
	}
	s.rate(&p)
	if s.oneIn(3) {
		for range 1 + s.below(4) {
			p.Match.Sources = append(p.Match.Sources, s.prefix())
		}
	}
	s.endpoint(&p)
	if p.Scope == policy.ScopePerIP {
		p.IPv4Prefix = pick(s.choices, []uint8{32, 32, 24, 8, 1})
		p.IPv6Prefix = pick(s.choices, []uint8{64, 64, 128, 48, 65, 1})
		if s.oneIn(4) {
			p.NewSources = &policy.NewSources{Limit: uint64(1 + s.below(40)), Window: pick(s.choices, []time.Duration{time.Millisecond, time.Second, time.Minute})}
		}
	}
	s.way(&p)
	for _, earlier := range some(s.choices, s.policies, 2) {
		if s.oneIn(3) {
			p.Replaces = append(p.Replaces, earlier.Name)
		}
	}
	return p.WithDefaults()
}

// rate draws a limit: slow or fast, with a burst that slots lease from or not.
func (s *scenario) rate(p *policy.Policy) {
	if s.oneIn(3) {
		p.Unit = policy.UnitBytes
		p.Limit = pick(s.choices, []uint64{1000, 100_000, 125_000_000, 50_000_000_000})
		p.Window, p.Burst = time.Second, pick(s.choices, []uint64{1514, 5000, 60_000, 1_000_000})
		return
	}
	p.Limit = pick(s.choices, []uint64{1, 3, 7, 10, 1000, 30_000})
	p.Window = pick(s.choices, []time.Duration{time.Millisecond, time.Second, 7 * time.Second, time.Hour})
	p.Burst = pick(s.choices, []uint64{1, 2, 5, 31, 64, 200, 2100})
}

// way draws which way packets take that the policy is for, and whether it paces.
func (s *scenario) way(p *policy.Policy) {
	if s.oneIn(8) {
		p.Match.Interfaces = pick(s.choices, [][]string{{"eth0"}, {"eth1"}, {"eth1", "eth0"}})
	}
	switch s.below(8) {
	case 0:
		p.Match.Direction = pick(s.choices, policy.Directions())
	case 1, 2, 3:
		if s.outgoing() && p.NewSources == nil {
			p.Match.Direction, p.Action = policy.DirectionEgress, policy.ActionPace
			if p.Unit != policy.UnitBytes { // a limit that packets are worth waiting for
				p.Limit, p.Window, p.Burst = pick(s.choices, []uint64{10, 100, 1000}), time.Second, uint64(1+s.below(5))
			}
		}
	}
}

func (s *scenario) endpoint(p *policy.Policy) {
	if s.oneIn(3) {
		p.Match.Protocol = pick(s.choices, []string{"udp", "tcp", "icmp", "icmpv6", "sctp", "gre", "0", "44", "200"})
	}
	number, asks := p.Match.ProtocolNumber()
	if s.oneIn(3) && (!asks || policy.HasPorts(number)) {
		for range 1 + s.below(3) {
			first := pick(s.choices, ports)
			p.Match.Ports = append(p.Match.Ports, policy.PortRange{First: first, Last: max(first, pick(s.choices, ports))})
		}
	}
	if p.NeedsPort() && s.oneIn(2) {
		p.OnFragment = policy.FragmentDrop
	}
}

// now moves the time on, and reads the clocks. Mostly by a small step; now and then back, as on a CPU whose clock is
// behind; and rarely by anything up to years, over the wrap of the ticks. The timer interrupt may be late.
func (s *scenario) now() bpfclock.Reading {
	switch s.below(64) {
	case 0:
		s.exact -= s.word() % uint64(time.Millisecond)
	case 1:
		s.exact += s.word() >> pick(s.choices, []int{8, 9, 16, 24})
	case 2, 3, 4, 5, 6, 7: // at the same instant
	default:
		s.exact += s.word() % (s.step + 1)
	}
	s.exact = max(s.exact, 1)
	late := s.exact - min(s.exact, s.word()%s.jiffy)
	return bpfclock.Reading{Exact: s.exact, Coarse: max(late, 1), Jiffies: max(s.jiffies+late/s.jiffy, 1)}
}

func (s *scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, table of %d entries, steps of %v, allow %v, deny %v, bans %v\n", s.hook, s.entries, time.Duration(s.step), s.lists.Allow, s.lists.Deny, s.bans)
	for _, p := range s.policies {
		fmt.Fprintf(&b, "  %+v", p)
		if p.NewSources != nil {
			fmt.Fprintf(&b, " new_sources %+v", *p.NewSources)
		}
		b.WriteString("\n")
	}
	return b.String()
}

package bench

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// generous are n policies within which every packet is: a source sends 10 ns apart at most.
func generous(n int) []policy.Policy {
	policies := make([]policy.Policy, n)
	for i := range policies {
		policies[i] = policy.Policy{
			Name: fmt.Sprintf("generous-%d", i), Scope: policy.ScopePerIP,
			Limit: policy.MaxRequestRate, Window: time.Second,
		}.WithDefaults()
	}
	return policies
}

// miserly is a policy that a source's second packet exceeds, and a newcomer's first when no entry is free.
func miserly() policy.Policy {
	return policy.Policy{
		Name: "miserly", Scope: policy.ScopePerIP, Limit: 1, Window: policy.SlowestToken,
		OnPressure: policy.PressureDrop,
	}.WithDefaults()
}

// selective are eight generous policies with prefixes and ports. The driver's packet, UDP from 10.0.0.1 to port
// 53, matches the four with an even number; of the others two have a port, and two a prefix, that it has not.
func selective() []policy.Policy {
	policies := generous(8)
	for i := range policies {
		m := &policies[i].Match
		m.Sources = []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, 0}), 8+i).Masked(),
			netip.MustParsePrefix("2001:db8::/32"),
		}
		m.Ports = []policy.PortRange{{First: framePort, Last: framePort}, {First: 8000, Last: uint16(8100 + i)}}
		switch i % 4 {
		case 1:
			m.Ports = m.Ports[1:]
		case 3:
			m.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), m.Sources[1]}
		}
	}
	return policies
}

// lpmPrefixes are so many prefixes, each of four addresses, spread evenly over the addresses from 10.0.0.0 on that have so
// many random bits. It also returns which part of the addresses they cover.
func lpmPrefixes(n, bits int) ([]netip.Prefix, float64) {
	blocks := 1 << (bits - 2)
	n = min(n, blocks)
	prefixes := make([]netip.Prefix, n)
	for i := range prefixes {
		address := uint32(10<<24) + 4*uint32(i*blocks/n)
		prefixes[i] = netip.PrefixFrom(address4(address), 30)
	}
	return prefixes, float64(n) / float64(blocks)
}

func address4(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

// tight is the policy of the live frames: what a busy host would allow a stranger.
func tight() policy.Policy {
	return policy.Policy{
		Name: "tight", Scope: policy.ScopePerIP, Limit: tightLimit, Window: time.Second, Burst: tightBurst,
		NewSources: &policy.NewSources{Limit: newSources, Window: time.Second},
	}.WithDefaults()
}

// The numbers in tight, packets and strangers a second.
const (
	tightLimit = 10
	tightBurst = 5
	newSources = 10_000
)

// mixed are policies that differ in all that a version of weir branches on, so that the verifier has to walk every branch.
func mixed(n int) []policy.Policy {
	policies := generous(n)
	for i := range policies {
		p := &policies[i]
		p.Unit = policy.Units()[i%len(policy.Units())]
		p.OnPressure = policy.Pressures()[i/2%len(policy.Pressures())]
		p.IPv6Prefix = []uint8{64, 128}[i%2]
		if i > n/2 {
			p.Mode = policy.ModeShadow
		}
		mixMatch(p, i)
	}
	return policies
}

// mixMatch gives the i-th of the mixed policies a scope, and something to match.
func mixMatch(p *policy.Policy, i int) {
	p.Scope = []policy.Scope{policy.ScopePerIP, policy.ScopePerEndpoint, policy.ScopeGlobal}[i%3]
	switch i % 4 {
	case 1:
		p.Match.Protocol, p.Match.Ports = "udp", []policy.PortRange{{First: 53, Last: 53}}
	case 2:
		p.Match.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		p.Replaces = []string{fmt.Sprintf("generous-%d", i-1)}
	case 3:
		if p.Scope == policy.ScopePerIP {
			p.NewSources = &policy.NewSources{Limit: newSources, Window: time.Second}
		}
	}
}

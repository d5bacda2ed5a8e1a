package policy

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// dnsPacket is a packet that the policies of TestClassify are held against.
func dnsPacket() Packet {
	return Packet{Source: netip.MustParseAddr("192.0.2.1"), Protocol: 17, Port: 53, PortState: PortKnown,
		Interface: "eth0", Direction: DirectionIngress}
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// TestClassify changes one policy or the packet, and tells what becomes of it.
func TestClassify(t *testing.T) {
	const hidden = "the port is not known, as in a later fragment (on_fragment: "
	dns := []PortRange{{53, 53}, {8000, 8100}}
	for _, c := range []struct {
		name   string
		change func(*Policy, *Packet)
		effect Effect
		reason string
	}{
		{"nothing", func(*Policy, *Packet) {}, EffectCharge, ""},
		{"off", func(p *Policy, _ *Packet) { p.Mode = ModeOff }, EffectNone, "mode off"},
		{"layer", func(p *Policy, _ *Packet) { p.Layer = LayerL7 }, EffectNone, "layer l7 judges requests, not packets"},
		{"shadow", func(p *Policy, _ *Packet) { p.Mode = ModeShadow }, EffectCharge, ""},

		{"interface", func(p *Policy, _ *Packet) { p.Match.Interfaces = []string{"eth0"} }, EffectCharge, ""},
		{"another interface", func(p *Policy, k *Packet) { p.Match.Interfaces, k.Interface = []string{"eth0"}, "eth1" },
			EffectNone, "interface eth1 is not eth0"},
		{"other interfaces", func(p *Policy, _ *Packet) { p.Match.Interfaces = []string{"eth1", "eth2"} },
			EffectNone, "interface eth0 is not among eth1, eth2"},
		{"direction", func(p *Policy, _ *Packet) { p.Match.Direction = DirectionIngress }, EffectCharge, ""},
		{"other direction", func(p *Policy, k *Packet) { p.Match.Direction, k.Direction = DirectionIngress, DirectionEgress },
			EffectNone, "direction egress is not ingress"},

		{"source", func(p *Policy, _ *Packet) { p.Match.Sources = prefixes("2001:db8::/32", "192.0.2.0/31") }, EffectCharge, ""},
		{"other sources", func(p *Policy, _ *Packet) { p.Match.Sources = prefixes("192.0.2.2/31", "::/0") },
			EffectNone, "source 192.0.2.1 is in none of its sources"},

		{"protocol", func(p *Policy, _ *Packet) { p.Match.Protocol = "17" }, EffectCharge, ""},
		{"other protocol", func(p *Policy, k *Packet) { p.Match.Protocol, k.Protocol = "17", 6 }, EffectNone, "protocol tcp is not udp"},
		{"unnamed protocol", func(p *Policy, k *Packet) { p.Match.Protocol, k.Protocol, k.PortState = "gre", 200, PortNone },
			EffectNone, "protocol 200 is not gre"},
		{"protocol 0", func(p *Policy, _ *Packet) { p.Match.Protocol = "0" }, EffectNone, "protocol udp is not 0"},

		{"port", func(p *Policy, _ *Packet) { p.Match.Ports = dns }, EffectCharge, ""},
		{"last port", func(p *Policy, k *Packet) { p.Match.Ports, k.Port = dns, 8100 }, EffectCharge, ""},
		{"other port", func(p *Policy, k *Packet) { p.Match.Ports, k.Port = dns, 54 }, EffectNone, "port 54 is not among 53, 8000-8100"},
		{"not the port", func(p *Policy, k *Packet) { p.Match.Ports, k.Port = dns[:1], 54 }, EffectNone, "port 54 is not 53"},
		{"no port", func(p *Policy, k *Packet) { p.Match.Ports, k.Protocol, k.PortState = dns, 1, PortNone },
			EffectNone, "protocol icmp has no ports"},
		{"endpoint", func(p *Policy, _ *Packet) { p.Scope = ScopePerEndpoint }, EffectCharge, ""},
		{"endpoint without port", func(p *Policy, k *Packet) { p.Scope, k.Protocol, k.PortState = ScopePerEndpoint, 1, PortNone }, EffectCharge, ""},

		{"fragment, no port asked", func(_ *Policy, k *Packet) { k.PortState = PortHidden }, EffectCharge, ""},
		{"fragment", func(p *Policy, k *Packet) { p.Match.Ports, k.PortState = dns, PortHidden }, EffectNone, hidden + "pass)"},
		{"fragment dropped", func(p *Policy, k *Packet) { p.Match.Ports, p.OnFragment, k.PortState = dns, FragmentDrop, PortHidden },
			EffectDrop, hidden + "drop)"},
		{"fragment of an endpoint", func(p *Policy, k *Packet) { p.Scope, k.PortState = ScopePerEndpoint, PortHidden }, EffectNone, hidden + "pass)"},
		{"fragment of an endpoint dropped", func(p *Policy, k *Packet) {
			p.Scope, p.OnFragment, k.PortState = ScopePerEndpoint, FragmentDrop, PortHidden
		}, EffectDrop, hidden + "drop)"},
		{"fragment of another protocol", func(p *Policy, k *Packet) {
			p.Match.Ports, p.Match.Protocol, p.OnFragment, k.PortState = dns, "tcp", FragmentDrop, PortHidden
		}, EffectNone, "protocol udp is not tcp"},
		{"whole packet", func(p *Policy, _ *Packet) { p.Match.Ports, p.OnFragment = dns, FragmentDrop }, EffectCharge, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, packet := valid(), dnsPacket()
			c.change(&p, &packet)
			got := Classify([]Policy{p}, Lists{}, packet).Policies[0]
			if got.Effect != c.effect || got.Reason != c.reason {
				t.Errorf("%s: %q, want %s: %q", got.Effect, got.Reason, c.effect, c.reason)
			}
		})
	}
}

func TestReplaces(t *testing.T) {
	policies := func(change func(a, b, c *Policy)) []Policy {
		p := []Policy{valid(), valid(), valid()}
		p[0].Name, p[1].Name, p[2].Name = "a", "b", "c"
		change(&p[0], &p[1], &p[2])
		return p
	}
	for _, c := range []struct {
		name     string
		policies []Policy
		want     []string // names of those that apply, and reasons
	}{
		{"nobody", policies(func(*Policy, *Policy, *Policy) {}), []string{"a", "b", "c"}},
		{"one", policies(func(_, b, _ *Policy) { b.Replaces = []string{"a"} }), []string{"replaced by b", "b", "c"}},
		{"all that match have their say", policies(func(a, b, _ *Policy) { a.Replaces, b.Replaces = []string{"b"}, []string{"c"} }),
			[]string{"a", "replaced by a", "replaced by b"}},
		{"the first says it", policies(func(a, b, c *Policy) {
			a.Replaces, b.Replaces, b.Priority = []string{"c"}, []string{"c"}, 1
		}), []string{"b", "a", "replaced by b"}},
		{"one that does not match", policies(func(a, b, _ *Policy) { b.Replaces, b.Match.Protocol = []string{"a"}, "tcp" }),
			[]string{"a", "protocol udp is not tcp", "c"}},
		{"one that does not match is not replaced", policies(func(a, b, _ *Policy) { b.Replaces, a.Match.Protocol = []string{"a"}, "tcp" }),
			[]string{"protocol udp is not tcp", "b", "c"}},
		{"shadow over enforce", policies(func(_, b, _ *Policy) { b.Replaces, b.Mode = []string{"a"}, ModeShadow }), []string{"a", "c", "b"}},
		{"shadow over shadow", policies(func(a, b, _ *Policy) {
			b.Replaces, a.Mode, b.Mode = []string{"a"}, ModeShadow, ModeShadow
		}), []string{"c", "replaced by b", "b"}},
		{"enforce over shadow", policies(func(a, b, _ *Policy) { b.Replaces, a.Mode = []string{"a"}, ModeShadow }), []string{"b", "c", "replaced by b"}},
		{"off", policies(func(_, b, _ *Policy) { b.Replaces, b.Mode = []string{"a"}, ModeOff }), []string{"a", "c", "mode off"}},
	} {
		var got []string
		for _, j := range Classify(c.policies, Lists{}, dnsPacket()).Policies {
			if j.Effect == EffectCharge {
				got = append(got, j.Policy.Name)
			} else {
				got = append(got, j.Reason)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestHiddenPortDrops tells who is charged for a later fragment.
func TestHiddenPortDrops(t *testing.T) {
	all, dns, narrow := valid(), valid(), valid()
	all.Name, dns.Name, narrow.Name = "all", "dns", "narrow"
	dns.Match.Ports, dns.OnFragment = []PortRange{{53, 53}}, FragmentDrop
	narrow.Match.Sources, narrow.Replaces = prefixes("192.0.2.0/24"), []string{"dns"}
	fragment := dnsPacket()
	fragment.PortState = PortHidden
	shadow := dns
	shadow.Mode = ModeShadow
	names := func(policies []Policy) (names []string) {
		for _, p := range policies {
			names = append(names, p.Name)
		}
		return names
	}
	for _, c := range []struct {
		name              string
		policies          []Policy
		charged, dropping []string
	}{
		{"enforce", []Policy{all, dns}, nil, []string{"dns"}},
		{"shadow", []Policy{all, shadow}, []string{"all"}, []string{"dns"}},
		{"replaced", []Policy{all, dns, narrow}, []string{"all", "narrow"}, nil},
	} {
		got := Classify(c.policies, Lists{}, fragment)
		if !slices.Equal(names(got.Charged()), c.charged) || !slices.Equal(names(got.Dropping()), c.dropping) {
			t.Errorf("%s: charged %v, dropping %v", c.name, names(got.Charged()), names(got.Dropping()))
		}
	}
}

func TestLists(t *testing.T) {
	lists := Lists{
		Allow: prefixes("192.0.2.0/24", "192.0.2.1/32", "192.0.2.0/28", "2001:db8::/32"),
		Deny:  prefixes("192.0.0.0/16", "198.51.100.0/24"),
		Bans:  prefixes("192.0.2.1/32", "198.51.100.7/32", "203.0.113.7/32"),
	}
	for source, want := range map[string]struct {
		list   List
		prefix string
	}{
		"192.0.2.1":    {ListAllow, "192.0.2.1/32"},
		"192.0.2.2":    {ListAllow, "192.0.2.0/28"},
		"192.0.2.20":   {ListAllow, "192.0.2.0/24"},
		"192.0.3.1":    {ListDeny, "192.0.0.0/16"},
		"198.51.100.7": {ListDeny, "198.51.100.0/24"},
		"203.0.113.7":  {ListBan, "203.0.113.7/32"},
		"203.0.113.8":  {ListNone, "invalid Prefix"},
		"2001:db8::1":  {ListAllow, "2001:db8::/32"},
		"2001:db9::1":  {ListNone, "invalid Prefix"},
	} {
		packet := dnsPacket()
		packet.Source = netip.MustParseAddr(source)
		off := valid()
		off.Mode = ModeOff
		got := Classify([]Policy{valid(), off}, lists, packet)
		if got.List != want.list || got.Prefix.String() != want.prefix {
			t.Errorf("%s: got %s %s", source, got.List, got.Prefix)
		}
		reason := string(want.list) + " " + want.prefix + " decides before any policy"
		if want.list == ListNone {
			reason = ""
		}
		if first := got.Policies[0]; first.Reason != reason || len(got.Charged()) > 0 != (want.list == ListNone) {
			t.Errorf("%s: got %q, %d charged", source, first.Reason, len(got.Charged()))
		}
		if second := got.Policies[1]; second.Reason != "mode off" {
			t.Errorf("%s: got %q of a policy that is off", source, second.Reason)
		}
	}
}

// TestClassifyProperties holds what is true of every set and every packet.
func TestClassifyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, packet := drawDocument().Draw(t, "document"), drawPacket().Draw(t, "packet")
		got := Classify(d.Policies, Lists{}, packet)
		if len(got.Policies) != len(d.Policies) {
			t.Fatalf("%d judgements of %d policies", len(got.Policies), len(d.Policies))
		}
		at := KernelPoliciesAt(d.Policies, Place{packet.Interface, packet.Direction})
		here := Classify(at, Lists{}, packet)
		if !reflect.DeepEqual(got.Charged(), here.Charged()) || !reflect.DeepEqual(got.Dropping(), here.Dropping()) {
			t.Errorf("the policies at the place decide otherwise:\n%+v\n%+v", got, here)
		}
		enforcing := slices.DeleteFunc(slices.Clone(d.Policies), func(p Policy) bool { return p.Mode != ModeEnforce })
		alone := slices.DeleteFunc(got.Policies, func(j Judgement) bool { return j.Policy.Mode != ModeEnforce })
		if want := Classify(enforcing, Lists{}, packet).Policies; len(want) > 0 && !reflect.DeepEqual(alone, want) {
			t.Errorf("what is in shadow changes what enforces:\n%+v\n%+v", alone, want)
		}
	})
}

// TestMatchIsAllOfItsFields restates each field by itself, and holds their conjunction against Classify.
func TestMatchIsAllOfItsFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, packet := drawKernelPolicy("a").Draw(t, "policy"), drawPacket().Draw(t, "packet")
		m, hidden := p.Match, packet.PortState == PortHidden
		matches := p.Mode != ModeOff && (m.Direction == "" || m.Direction == packet.Direction)
		matches = matches && (m.Interfaces == nil || slices.Index(m.Interfaces, packet.Interface) >= 0)
		matches = matches && (m.Protocol == "" || m.Protocol == ProtocolName(packet.Protocol) || m.Protocol == strconv.Itoa(int(packet.Protocol)))
		source := m.Sources == nil
		for _, s := range m.Sources {
			masked, err := packet.Source.Prefix(s.Bits())
			source = source || err == nil && masked == s
		}
		port := m.Ports == nil || hidden
		for _, r := range m.Ports {
			port = port || packet.PortState == PortKnown && r.First <= packet.Port && packet.Port <= r.Last
		}
		matches = matches && source && port
		want := map[bool]Effect{true: EffectCharge, false: EffectNone}[matches]
		if matches && hidden && (m.Ports != nil || p.Scope == ScopePerEndpoint) {
			want = map[Fragment]Effect{FragmentPass: EffectNone, FragmentDrop: EffectDrop}[p.OnFragment]
		}
		got := Classify([]Policy{p}, Lists{}, packet).Policies[0]
		if got.Effect != want || (got.Reason == "") != (want == EffectCharge) {
			t.Errorf("got %s (%s), want %s", got.Effect, got.Reason, want)
		}
	})
}

func TestKernelPoliciesAt(t *testing.T) {
	named := func(name string, m Match) Policy { p := valid(); p.Name, p.Match = name, m; return p }
	all := named("all", Match{})
	in := named("in", Match{Direction: DirectionIngress})
	out := named("out", Match{Direction: DirectionEgress, Interfaces: []string{"eth0", "eth1"}})
	off := named("off", Match{})
	out.Priority, off.Mode = 1, ModeOff
	for at, want := range map[Place][]string{
		{"eth0", DirectionIngress}: {"all", "in"},
		{"eth0", DirectionEgress}:  {"out", "all"},
		{"eth2", DirectionEgress}:  {"all"},
	} {
		var got []string
		for _, p := range KernelPoliciesAt([]Policy{off, all, in, out}, at) {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", at, got, want)
		}
	}
}

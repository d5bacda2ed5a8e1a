package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// hosts returns n different addresses as prefixes.
func hosts(n int) []netip.Prefix {
	all := make([]netip.Prefix, n)
	address := netip.MustParseAddr("10.0.0.0")
	for i := range all {
		all[i] = netip.PrefixFrom(address, 32)
		address = address.Next()
	}
	return all
}

func TestDocument(t *testing.T) {
	with := func(name string, sources []netip.Prefix) Policy {
		p := valid()
		p.Name, p.Match.Sources = name, sources
		return p
	}
	many := hosts(MaxPrefixes)
	for _, c := range []struct {
		name  string
		d     Document
		paths []string
		says  string
	}{
		{"nothing", Document{}, nil, ""},
		{"overlap", Document{Allow: prefixes("10.0.0.0/8", "10.0.0.1/32"), Deny: prefixes("10.0.0.0/8", "10.0.0.1/32", "::/0")}, nil, ""},
		{"twice allowed", Document{Allow: prefixes("10.0.0.0/8", "::/0", "10.0.0.0/8")}, []string{"allow[2]"},
			"10.0.0.0/8 is already listed as allow[0]; remove one of the two"},
		{"twice denied", Document{Deny: prefixes("::/0", "::/0", "::/0")}, []string{"deny[1]", "deny[2]"}, "deny[0]"},
		{"host bits", Document{Deny: prefixes("10.0.0.1/8")}, []string{"deny[0]"}, "write 10.0.0.0/8"},
		{"no prefix", Document{Allow: []netip.Prefix{{}}}, []string{"allow[0]"}, "is not a prefix"},
		{"IPv4 as IPv6", Document{Allow: prefixes("::ffff:10.0.0.0/104")}, []string{"allow[0]"}, "IPv4"},
		{"most", Document{Allow: many[:1], Deny: many[:2], Policies: []Policy{with("a", many[3:])}}, nil, ""},
		{"too many denied", Document{Allow: many[:1], Deny: many}, []string{"deny"}, "more than 100000 entries together"},
		{"too many sources", Document{Allow: many[:1], Policies: []Policy{with("a", many), with("b", many)}},
			[]string{"policies[1].match.sources"}, "join prefixes"},
		{"too many policies", Document{Policies: make([]Policy, MaxPolicies+1)}, []string{"policies[10000]"}, "there are 10001 policies"},
		{"policies too", Document{Policies: []Policy{{Mode: ModeOff}}}, []string{"policies[0].name"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			faults := c.d.Validate()
			if c.name == "policies too" {
				faults = faults[:1]
			}
			if got := paths(faults); !slices.Equal(got, c.paths) {
				t.Fatalf("got %v, want %v", faults, c.paths)
			}
			if len(faults) > 0 && !strings.Contains(faults[0].Error(), c.says) {
				t.Errorf("got %q, want it to say %q", faults[0].Error(), c.says)
			}
		})
	}
}

func TestEarlierEntryIsNamed(t *testing.T) {
	faults := Document{Deny: prefixes("::/0", "10.0.0.0/8", "10.0.0.0/8")}.Validate()
	if len(faults) != 1 || faults[0].Earlier != "deny[1]" {
		t.Errorf("got %+v", faults)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var d Document
	for range 3 * maxFaults {
		d.Policies = append(d.Policies, Policy{})
		d.Allow = append(d.Allow, netip.Prefix{})
	}
	if n := len(d.Validate()); n != maxFaults {
		t.Errorf("got %d faults, want %d", n, maxFaults)
	}
}

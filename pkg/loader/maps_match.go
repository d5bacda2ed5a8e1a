package loader

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// SourceRules are what a program knows of the sources of one address family.
type SourceRules struct {
	Owner
	Rules []SourceRule `json:"rules"` // by address
}

// SourceRule is what becomes of packets from a prefix, as far as no longer one covers them.
type SourceRule struct {
	Prefix netip.Prefix `json:"prefix"`
	// List is what decides at once: allow or deny. Empty: the policies do.
	List     string   `json:"list,omitempty"`
	Policies []string `json:"policies"` // whose match.sources it satisfies
}

// Sources reads the tries of prefixes of every attachment, IPv4 or IPv6.
func (d *StateDir) Sources(is4 bool) ([]SourceRules, error) {
	return perAttachment(d, "sources", func(id attachmentID, set string) ([]SourceRules, error) {
		r, err := d.readSources(id, set, is4)
		return []SourceRules{r}, err
	})
}

func (d *StateDir) readSources(id attachmentID, set string, is4 bool) (SourceRules, error) {
	r := SourceRules{Owner: id.owner(), Rules: []SourceRule{}}
	loaded, err := d.openLoaded(id.hook, set)
	if err != nil {
		return r, err
	}
	name, read := xdpMapSources6, readTrie[xdpLpmIpv6, xdpSourceRule]
	if is4 {
		name, read = xdpMapSources4, readTrie[xdpLpmIpv4, xdpSourceRule]
	}
	m, err := d.openMap(set, ownMaps[name])
	if err != nil {
		return r, err
	}
	defer m.Close()
	rules, err := read(m)
	if err != nil {
		return r, err
	}
	for prefix, rule := range rules {
		named := SourceRule{Prefix: prefix, Policies: loaded.names(rule.Policies)}
		if int(rule.List) < len(lists) {
			named.List = lists[rule.List]
		}
		r.Rules = append(r.Rules, named)
	}
	slices.SortFunc(r.Rules, func(a, b SourceRule) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return r, nil
}

// names are those of the policies of a mask, which has a bit by rank.
func (s *loadedSet) names(mask uint64) []string {
	names := []string{}
	for rank, p := range s.policies {
		if mask>>rank&1 != 0 {
			names = append(names, p.Name)
		}
	}
	return names
}

// PortRules are what a program knows of ports.
type PortRules struct {
	Owner
	Rules []PortRule `json:"rules"` // from port 0 to 65535 without a gap; none if no policy asks for a port
}

// PortRule is a range of ports that are the same to all policies.
type PortRule struct {
	First    uint16   `json:"first"`
	Last     uint16   `json:"last"`
	Policies []string `json:"policies"` // whose match.ports they satisfy
}

// Ports reads the ports of every attachment.
func (d *StateDir) Ports() ([]PortRules, error) {
	return perAttachment(d, "ports", func(id attachmentID, set string) ([]PortRules, error) {
		r, err := d.readPorts(id, set)
		return []PortRules{r}, err
	})
}

func (d *StateDir) readPorts(id attachmentID, set string) (PortRules, error) {
	r := PortRules{Owner: id.owner(), Rules: []PortRule{}}
	loaded, err := d.openLoaded(id.hook, set)
	if err != nil {
		return r, err
	}
	m, err := d.openMap(set, ownMaps[xdpMapPorts])
	if err != nil {
		return r, err
	}
	defer m.Close()
	if m.MaxEntries() != portCount {
		return r, nil // nobody asks, and there is one entry as a map has at least that
	}
	ports, masks := make([]uint32, portCount), make([]uint64, portCount)
	if n, err := m.BatchLookup(new(ebpf.MapBatchCursor), ports, masks, nil); n != portCount {
		return r, explain(err)
	}
	for first := 0; first < portCount; {
		last := first
		for last+1 < portCount && masks[last+1] == masks[first] {
			last++
		}
		r.Rules = append(r.Rules, PortRule{uint16(first), uint16(last), loaded.names(masks[first])})
		first = last + 1
	}
	return r, nil
}

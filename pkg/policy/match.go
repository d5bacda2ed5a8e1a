package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Match narrows a policy to some of the traffic. Fields are joined by "and",
// the values inside a field by "or"; an empty field matches everything.
type Match struct {
	// Sources are prefixes of the remote end, without host bits: of the source
	// of what comes in, of the destination of what goes out. Kernel and layer 7.
	Sources []netip.Prefix
	// Protocol is one of [Protocols], a number from 0 to [MaxProtocol] in
	// decimal digits, or empty. Kernel.
	Protocol string
	// Ports are local ports, at most [MaxPortRanges] entries: the destination
	// port of what comes in, the source port of what goes out. Kernel.
	Ports []PortRange
	// Interfaces are names of network interfaces, at most [MaxInterfaces].
	// Kernel.
	Interfaces []string
	// Direction is the way that packets take. Kernel.
	Direction Direction
	// Methods are HTTP methods in capitals. Layer 7, as are all that follow; each
	// has at most [MaxL7Entries].
	Methods []string
	// Endpoints are paths as [ParseEndpoint] reads them: exact, "prefix*" or
	// "/path/{var}".
	Endpoints []string
	// Users and Roles are names, as the request's context gives them.
	Users, Roles []string
	// Metadata are values by metadata key, exact or "prefix*"; all must match.
	Metadata map[string]string
}

// The bounds of a match's lists. How many prefixes there may be is a matter of
// the whole set, see [MaxPrefixes].
const (
	MaxPortRanges = 1024
	MaxInterfaces = 1024
	MaxL7Entries  = 1024 // of each list of layer 7
)

// NeedsL7 reports whether the match looks at something that only layer 7 can
// see.
func (m Match) NeedsL7() bool {
	return slices.ContainsFunc(m.fields(), func(f matchField) bool { return f.used && !f.kernel })
}

// matchField is one line of the table of match fields.
type matchField struct {
	name       string
	used       bool
	kernel, l7 bool // who can see it
}

func (m Match) fields() []matchField {
	return []matchField{
		{"sources", len(m.Sources) > 0, true, true},
		{"protocol", m.Protocol != "", true, false},
		{"ports", len(m.Ports) > 0, true, false},
		{"interfaces", len(m.Interfaces) > 0, true, false},
		{"direction", m.Direction != DirectionBoth, true, false},
		{"methods", len(m.Methods) > 0, false, true},
		{"endpoints", len(m.Endpoints) > 0, false, true},
		{"users", len(m.Users) > 0, false, true},
		{"roles", len(m.Roles) > 0, false, true},
		{"metadata", len(m.Metadata) > 0, false, true},
	}
}

// faults judges each value on its own; whether the fields go together with the
// rest of the policy is asked elsewhere.
func (m Match) faults() []Fault {
	var fs faults
	for i, s := range m.Sources {
		fs.source(fmt.Sprintf("match.sources[%d]", i), s)
	}
	m.kernelFaults(&fs)
	m.l7Faults(&fs)
	return fs
}

func (m Match) kernelFaults(fs *faults) {
	if _, known := ProtocolNumber(m.Protocol); m.Protocol != "" && !known {
		fs.add("match.protocol", "unknown protocol "+Quote(m.Protocol),
			fmt.Sprintf("use one of %s, or a number from 0 to %d", list(Protocols()), MaxProtocol))
	}
	fs.atMost("match.ports", len(m.Ports), MaxPortRanges)
	for i, r := range m.Ports {
		if r.First == 0 || r.First > r.Last {
			fs.add(fmt.Sprintf("match.ports[%d]", i), fmt.Sprintf("%d-%d is not a range of ports", r.First, r.Last),
				"write FIRST-LAST with 1 <= FIRST <= LAST <= 65535")
		}
	}
	fs.atMost("match.interfaces", len(m.Interfaces), MaxInterfaces)
	for i, name := range m.Interfaces {
		if !ValidInterfaceName(name) {
			fs.add(fmt.Sprintf("match.interfaces[%d]", i), Quote(name)+" cannot be the name of a network interface",
				`use 1 to 15 bytes without "/", ":" and blanks`)
		}
	}
	if m.Direction != DirectionBoth {
		checkEnum(fs, "match.direction", m.Direction, Directions())
	}
}

func (m Match) l7Faults(fs *faults) {
	for i, method := range m.Methods {
		if !isMethod(method) {
			fs.add(fmt.Sprintf("match.methods[%d]", i), Quote(method)+" is not an HTTP method",
				"write it in capitals, such as POST")
		}
	}
	for i, endpoint := range m.Endpoints {
		if len(endpoint) <= MaxText { // else it is a fault already
			_, err := ParseEndpoint(endpoint)
			fs.text(fmt.Sprintf("match.endpoints[%d]", i), err)
		}
	}
	for _, names := range []struct {
		field  string
		values []string
	}{{"users", m.Users}, {"roles", m.Roles}} {
		for i, name := range names.values {
			if name == "" {
				fs.add(fmt.Sprintf("match.%s[%d]", names.field, i), "must not be empty", "write a name or remove the entry")
			}
		}
	}
	m.metadataFaults(fs)
	for _, f := range []struct {
		field string
		n     int
	}{{"methods", len(m.Methods)}, {"endpoints", len(m.Endpoints)}, {"users", len(m.Users)}, {"roles", len(m.Roles)}, {"metadata", len(m.Metadata)}} {
		fs.atMost("match."+f.field, f.n, MaxL7Entries)
	}
}

func (m Match) metadataFaults(fs *faults) {
	for _, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		path, pattern := fmt.Sprintf("match.metadata[%q]", name), m.Metadata[name]
		star := strings.IndexByte(pattern, '*')
		switch {
		case name == "":
			fs.add("match.metadata", "has an empty key", "name the key or remove the entry")
		case pattern == "":
			fs.add(path, "must not be empty", `write a value, or "*" for any`)
		case star >= 0 && star < len(pattern)-1:
			fs.add(path, Quote(pattern)+` has a "*" before its end`, `keep only a last one, as in "acme*"`)
		}
	}
}

func isMethod(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'A' && r <= 'Z' || r == '-') })
}

func (fs *faults) atMost(path string, n, most int) {
	if n > most {
		fs.add(path, fmt.Sprintf("has %d entries", n), fmt.Sprintf("write at most %d, or leave it out to match all", most))
	}
}

func (fs *faults) source(path string, s netip.Prefix) {
	switch {
	case !s.IsValid():
		fs.add(path, "is not a prefix", "write one such as 203.0.113.0/24")
	case s.Addr().Is4In6():
		fs.add(path, fmt.Sprintf("%s is IPv4 written as IPv6, which no packet carries", s), "write the IPv4 prefix")
	case s != s.Masked():
		fs.add(path, fmt.Sprintf("%s has bits set behind its prefix length", s), fmt.Sprintf("write %s", s.Masked()))
	}
}

// ValidInterfaceName reports whether the kernel would accept name for a
// network interface: 1 to 15 bytes, not "." or "..", no "/", no ":" and no
// white space (dev_valid_name in net/core/dev.c).
func ValidInterfaceName(name string) bool {
	if name == "" || len(name) > 15 || name == "." || name == ".." {
		return false
	}
	// 0xa0 is in the kernel's ctype table as a space.
	return !strings.ContainsAny(name, "/: \t\n\v\f\r\x00") && !strings.Contains(name, "\xa0")
}

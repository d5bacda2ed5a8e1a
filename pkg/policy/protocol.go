package policy

import (
	"slices"
	"strconv"
)

// MaxProtocol is the largest protocol number that a policy can ask for; IANA
// keeps 255 from ever being one.
const MaxProtocol = 254

// protocol is a protocol above IP.
type protocol struct {
	name   string
	number uint8 // IANA's
	ports  bool  // its header begins with a source and a destination port
}

// protocols returns the protocols that have a name here, in the order in which messages list them.
func protocols() []protocol {
	return []protocol{
		{"tcp", 6, true},
		{"udp", 17, true},
		{"icmp", 1, false},
		{"icmpv6", 58, false},
		{"sctp", 132, true},
		{"udplite", 136, true},
		{"dccp", 33, true},
		{"igmp", 2, false},
		{"ipip", 4, false},
		{"ipv6", 41, false}, // IPv6 in IP
		{"gre", 47, false},
		{"esp", 50, false},
		{"ah", 51, false},
		{"eigrp", 88, false},
		{"ospf", 89, false},
		{"pim", 103, false},
		{"vrrp", 112, false},
		{"l2tp", 115, false},
		{"mpls", 137, false},
	}
}

// Protocols returns every name that Match.Protocol can have.
func Protocols() []string { return protocolNames(protocols()) }

// portProtocols returns the names of the protocols that have ports.
func portProtocols() []string {
	return protocolNames(slices.DeleteFunc(protocols(), func(p protocol) bool { return !p.ports }))
}

func protocolNames(protocols []protocol) []string {
	names := make([]string, len(protocols))
	for i, p := range protocols {
		names[i] = p.name
	}
	return names
}

// ProtocolNumber returns the number of a protocol that is written as one of
// [Protocols], or as a number from 0 to [MaxProtocol] in decimal digits.
func ProtocolNumber(text string) (uint8, bool) {
	for _, p := range protocols() {
		if p.name == text {
			return p.number, true
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	// "017" would be 17 to some and 15 to others.
	if err != nil || n > MaxProtocol || text != strconv.FormatUint(n, 10) {
		return 0, false
	}
	return uint8(n), true
}

// ProtocolName returns the name of a protocol, or its number in digits if it
// has none here.
func ProtocolName(number uint8) string {
	for _, p := range protocols() {
		if p.number == number {
			return p.name
		}
	}
	return strconv.Itoa(int(number))
}

// HasPorts reports whether packets of a protocol have ports that the kernel
// path reads.
func HasPorts(number uint8) bool {
	return slices.ContainsFunc(protocols(), func(p protocol) bool { return p.number == number && p.ports })
}

// ProtocolNumber returns the number of the protocol that the match asks for,
// and false if it asks for none.
func (m Match) ProtocolNumber() (uint8, bool) { return ProtocolNumber(m.Protocol) }

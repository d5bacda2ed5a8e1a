package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// PortRange is the ports First to Last, both included; 1 <= First <= Last.
type PortRange struct {
	First, Last uint16
}

// Contains reports whether the port is one of the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// String returns "53", or "8000-8100".
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// ParsePorts reads a range of ports as the configuration file writes it: "53"
// or "8000-8100". The error is a *[TextError].
func ParsePorts(s string) (PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	from, knownFrom := parsePort(first)
	upTo, knownUpTo := parsePort(last)
	if !knownFrom || !knownUpTo || from > upTo {
		return PortRange{}, &TextError{"want a port or a range of ports, got " + Quote(s), "write 1 to 65535, or FIRST-LAST such as 8000-8100"}
	}
	return PortRange{First: from, Last: upTo}, nil
}

// parsePort accepts no leading zero: 010 is eight to YAML 1.1.
func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && s[0] != '0'
}

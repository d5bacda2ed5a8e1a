package demo

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-limiter/weir/internal/lab"
)

// tcpSegments is how many TCP segments a host has received, over IPv4 and IPv6: tcpInSegs of RFC 4022.
func tcpSegments(h *lab.Host) (n uint64, err error) {
	err = h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp") // of this thread's network namespace
		if err == nil {
			n, err = snmpCounter(string(text), "Tcp:", "InSegs")
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count the TCP segments of %s: %w", h.Name, err)
	}
	return n, nil
}

// snmpCounter finds a counter in the text of /proc/net/snmp: of the two lines of a group the first has the names, the second
// the values.
func snmpCounter(text, group, name string) (uint64, error) {
	at := -1
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] != group:
		case at < 0:
			at = slices.Index(fields, name)
		case at < len(fields):
			return strconv.ParseUint(fields[at], 10, 64)
		}
	}
	return 0, fmt.Errorf("no counter %s %s", group, name)
}

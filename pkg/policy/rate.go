package policy

import (
	"fmt"
	"strings"
	"time"
)

// Rate returns the limit for people: "1000/s", "10/min", "5 MB/s", "100/10s", "3 in flight".
// It is exact; bytes are counted in powers of 1000.
func (p Policy) Rate() string {
	if p.Algorithm == AlgorithmConcurrency {
		return fmt.Sprintf("%d in flight", p.Limit)
	}
	return rate{limit: p.Limit, window: p.Window, unit: p.Unit}.String()
}

// String formats the rate without its burst.
func (r rate) String() string {
	if r.unit == UnitBytes {
		return byteCount(r.limit) + "/" + perWindow(r.window)
	}
	return fmt.Sprintf("%d/%s", r.limit, perWindow(r.window))
}

func perWindow(window time.Duration) string {
	switch window {
	case time.Second:
		return "s"
	case time.Minute:
		return "min"
	case time.Hour:
		return "h"
	case 24 * time.Hour:
		return "day"
	default:
		return FormatDuration(window)
	}
}

// byteCount uses the largest unit in which n has at most three decimals, so
// that nothing is rounded.
func byteCount(n uint64) string {
	scales := []struct {
		size uint64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}}
	for _, s := range scales {
		if n < s.size || n%(s.size/1000) != 0 {
			continue
		}
		decimals := strings.TrimRight(fmt.Sprintf("%03d", n%s.size/(s.size/1000)), "0")
		if decimals != "" {
			decimals = "." + decimals
		}
		return fmt.Sprintf("%d%s %s", n/s.size, decimals, s.name)
	}
	return fmt.Sprintf("%d B", n)
}

// FormatDuration formats d as the configuration file would write it: "1d" and "36h"
// instead of "24h0m0s" and "36h0m0s".
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d != 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/loader"
)

func serviceText(s *top.Source) string {
	if s.Port == 0 {
		return s.Protocol
	}
	return fmt.Sprintf("%s/%d", s.Protocol, s.Port)
}

// deniedBy names who denied most often.
func deniedBy(s *top.Source) string {
	if s.DeniedBy == nil {
		return ""
	}
	name := s.DeniedBy.Policy
	if name == "" {
		name = "unknown policy"
	}
	if runes := []rune(name); len(runes) > topMaxName {
		name = string(runes[:topMaxName-1]) + "…"
	}
	switch s.DeniedBy.Cause {
	case loader.CauseDeny:
		name = "deny list"
	case loader.CauseBan:
		name = "ban"
	case loader.CauseStranger:
		name += " (stranger)"
	case loader.CauseFragment:
		name += " (fragment)"
	}
	if s.Dropped == 0 {
		name += ", shadow"
	}
	return name
}

// rateText writes a rate with as many digits as tell something.
func rateText(perSecond float64) string {
	if perSecond < 9.95 && perSecond != math.Trunc(perSecond) {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return thousands(uint64(math.Round(perSecond)))
}

// colouredRate is a rate that stands out if there is one, and fades if not.
func colouredRate(perSecond float64, s style, unit string) cell {
	if perSecond == 0 {
		s = faint
	}
	return cell{rateText(perSecond) + unit, s}
}

// bytesText writes bytes with three digits in a decimal unit.
func bytesText(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	unit := 0
	for n >= 999.5 && unit < len(units)-1 {
		n /= 1000
		unit++
	}
	if n >= 99.95 || unit == 0 {
		return fmt.Sprintf("%.0f %s", n, units[unit])
	}
	return fmt.Sprintf("%.3g %s", n, units[unit])
}

// sparkline draws the last values, up to size of them, the newest at the right. The largest is a full block;
// nothing at all is a blank, so that it can be told from little.
func sparkline(values []uint64, size int) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	values = values[max(0, len(values)-size):]
	var largest uint64
	for _, v := range values {
		largest = max(largest, v)
	}
	var line strings.Builder
	line.WriteString(strings.Repeat(" ", size-len(values)))
	for _, v := range values {
		if v == 0 {
			line.WriteByte(' ')
			continue
		}
		line.WriteRune(blocks[int(math.Ceil(float64(v)/float64(largest)*float64(len(blocks))))-1])
	}
	return line.String()
}

package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/pkg/policy"
)

// within reads a number that is at least so large.
func within[T uint8 | uint32 | uint64](read into, to *T, least T) into {
	return func(d *decoder, c cursor) {
		if read(d, c); *to < least && !d.unreadable(c.path) {
			d.fail(c, fmt.Sprintf("%d is too small", *to), fmt.Sprintf("write at least %d", least))
		}
	}
}

// spanWithin reads a duration from least to most.
func spanWithin(to *time.Duration, least, most time.Duration) into {
	return func(d *decoder, c cursor) {
		span(to)(d, c)
		switch {
		case d.unreadable(c.path):
		case *to < least:
			d.fail(c, policy.FormatDuration(*to)+" is too short", "write at least "+policy.FormatDuration(least))
		case *to > most:
			d.fail(c, policy.FormatDuration(*to)+" is too long", "write at most "+policy.FormatDuration(most))
		}
	}
}

// fraction reads a number such as 0.1, in digits alone as [parseWhole] does.
func fraction(to *float64, least, most float64) into {
	return scalar(to, "a number", func(n *yaml.Node) (float64, *complaint) {
		mend := fmt.Sprintf("write a number from %v to %v, such as 0.1", least, most)
		v, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || strings.Trim(n.Value, "0123456789.") != "" || n.ShortTag() != "!!int" && n.ShortTag() != "!!float" || v < least || v > most {
			return 0, &complaint{fmt.Sprintf("%.40q is not in its range", n.Value), mend}
		}
		return v, nil
	})
}

package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/pkg/policy"
)

// complaint is why a text is not the value that was wanted.
type complaint struct{ problem, mend string }

func (c *complaint) Error() string { return c.problem + "; " + c.mend }

// scalar reads a single value through parse.
func scalar[T any](to *T, want string, parse func(*yaml.Node) (T, *complaint)) into {
	return func(d *decoder, c cursor) {
		if c.node.Kind != yaml.ScalarNode {
			d.fail(c, fmt.Sprintf("want %s, got %s", want, describe(c.node)), "write a single value")
			return
		}
		v, bad := parse(c.node)
		if bad != nil {
			d.fail(c, bad.problem, bad.mend)
			return
		}
		*to = v
	}
}

// text reads a text. Numbers and truth values must be quoted, since YAML might
// have changed them already: "1.10" is not 1.1.
func text(to *string) into {
	return scalar(to, "text", func(n *yaml.Node) (string, *complaint) {
		if tag := n.ShortTag(); tag != "!!str" {
			return "", &complaint{"want text, got " + describe(n), fmt.Sprintf("put it in quotes: %q", shorten(n.Value))}
		}
		return n.Value, nil
	})
}

// boolean reads true or false.
func boolean(to *bool) into {
	return scalar(to, "true or false", func(n *yaml.Node) (bool, *complaint) {
		if n.ShortTag() != "!!bool" {
			return false, &complaint{"want true or false, got " + describe(n), "write true or false without quotes"}
		}
		return strings.EqualFold(n.Value, "true"), nil
	})
}

// enum reads one of the allowed words.
func enum[T ~string](to *T, allowed []T) into {
	words := make([]string, len(allowed))
	for i, v := range allowed {
		words[i] = string(v)
	}
	mend := "use one of " + strings.Join(words, ", ")
	return scalar(to, "one of "+strings.Join(words, ", "), func(n *yaml.Node) (T, *complaint) {
		if !slices.Contains(words, n.Value) {
			return "", &complaint{"unknown value " + quote(n.Value), mend}
		}
		return T(n.Value), nil
	})
}

// whole reads a whole number from 0 to most.
func whole[T uint8 | uint32 | uint64](to *T, most uint64) into {
	return scalar(to, "a whole number", func(n *yaml.Node) (T, *complaint) {
		v, bad := parseWhole(n, most)
		return T(v), bad
	})
}

// signed reads a whole number of 32 bits that may be negative.
func signed(to *int) into {
	return scalar(to, "a whole number", func(n *yaml.Node) (int, *complaint) {
		positive := *n
		rest, negative := strings.CutPrefix(n.Value, "-")
		positive.Value = rest
		if _, bad := parseWhole(&positive, math.MaxUint64); bad != nil {
			return 0, &complaint{"want a whole number, got " + describe(n), "write digits only, such as 10 or -10"}
		}
		v, err := strconv.ParseInt(n.Value, 10, 32)
		switch {
		case err != nil && negative:
			return 0, &complaint{shorten(n.Value) + " is too small", fmt.Sprintf("write at least %d", math.MinInt32)}
		case err != nil:
			return 0, &complaint{shorten(n.Value) + " is too large", fmt.Sprintf("write at most %d", math.MaxInt32)}
		}
		return int(v), nil
	})
}

// parseWhole accepts decimal digits only. YAML's other spellings differ between
// its versions: 010 is eight in one and ten in another.
func parseWhole(n *yaml.Node, most uint64) (uint64, *complaint) {
	digits := n.Value != "" && strings.Trim(n.Value, "0123456789") == ""
	switch {
	case digits && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		return 0, &complaint{fmt.Sprintf("want a whole number, got the text %s", quote(n.Value)), "remove the quotes"}
	case digits && len(n.Value) > 1 && n.Value[0] == '0':
		return 0, &complaint{fmt.Sprintf("want a whole number, got %s, which YAML may read as octal", shorten(n.Value)),
			"remove the leading zeroes"}
	case digits:
		v, err := strconv.ParseUint(n.Value, 10, 64)
		if err != nil || v > most {
			return 0, &complaint{shorten(n.Value) + " is too large", fmt.Sprintf("write at most %d", most)}
		}
		return v, nil
	case strings.HasPrefix(n.Value, "-") && n.ShortTag() != "!!str":
		return 0, &complaint{"must not be negative, got " + shorten(n.Value), "remove the minus"}
	default:
		return 0, &complaint{"want a whole number, got " + describe(n), "write digits only, such as 1000"}
	}
}

// span reads a duration.
func span(to *time.Duration) into {
	return scalar(to, "a duration", func(n *yaml.Node) (time.Duration, *complaint) {
		return parseDuration(n.Value)
	})
}

// ParseDuration reads a duration as the configuration file writes it: the form
// of [time.ParseDuration] with days before it, such as "500ms", "90s", "1h30m",
// "30d" or "1d12h". Days are of 24 hours. A negative duration is an error.
func ParseDuration(s string) (time.Duration, error) {
	d, bad := parseDuration(s)
	if bad != nil {
		return 0, bad
	}
	return d, nil
}

func parseDuration(s string) (time.Duration, *complaint) {
	const (
		day  = 24 * time.Hour
		form = "write a number and a unit of ns, us, ms, s, m, h or d, such as 500ms, 1s, 1h30m or 30d"
	)
	tooLong := &complaint{quote(s) + " is too long for a duration", fmt.Sprintf("write at most %dd", math.MaxInt64/day)}
	malformed := &complaint{"want a duration, got " + quote(s), form}

	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "0", s
	}
	if strings.Trim(days, "0123456789") != "" || days == "" {
		return 0, malformed
	}
	n, err := strconv.ParseUint(days, 10, 64)
	if err != nil || n > uint64(math.MaxInt64/day) {
		return 0, tooLong
	}
	total := time.Duration(n) * day
	if rest == "" && found {
		return total, nil
	}
	more, err := time.ParseDuration(rest)
	switch {
	case err != nil || found && more < 0:
		return 0, malformed
	case more < 0:
		return 0, &complaint{"must not be negative, got " + quote(s), "remove the minus"}
	case more > math.MaxInt64-total:
		return 0, tooLong
	}
	return total + more, nil
}

// prefix reads an address or a prefix.
func prefix(to *netip.Prefix) into {
	return scalar(to, "a prefix", func(n *yaml.Node) (netip.Prefix, *complaint) {
		return parsePrefix(n.Value)
	})
}

// ParsePrefix reads a source as the configuration file writes it: an address,
// which stands for itself alone, or ADDRESS/LENGTH without host bits. IPv6
// zones and IPv4 inside IPv6 are errors.
func ParsePrefix(s string) (netip.Prefix, error) {
	p, bad := parsePrefix(s)
	if bad != nil {
		return netip.Prefix{}, bad
	}
	return p, nil
}

func parsePrefix(s string) (netip.Prefix, *complaint) {
	const form = "write an address or a prefix such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"
	if addr, err := netip.ParseAddr(s); err == nil {
		switch {
		case addr.Zone() != "":
			return netip.Prefix{}, &complaint{quote(s) + " has a zone, which a packet does not carry", "write " + addr.WithZone("").String()}
		case addr.Is4In6():
			return netip.Prefix{}, &complaint{quote(s) + " is IPv4 written as IPv6", "write " + addr.Unmap().String()}
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, &complaint{"want an address or a prefix, got " + quote(s), form}
	case p.Addr().Is4In6():
		return netip.Prefix{}, &complaint{quote(s) + " is IPv4 written as IPv6", "write the IPv4 prefix"}
	case p != p.Masked():
		return netip.Prefix{}, &complaint{quote(s) + " has bits set behind its prefix length", "write " + p.Masked().String()}
	}
	return p, nil
}

// ports reads a port or FIRST-LAST.
func ports(to *policy.PortRange) into {
	return scalar(to, "a port", func(n *yaml.Node) (policy.PortRange, *complaint) {
		first, last, isRange := strings.Cut(n.Value, "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.ParseUint(first, 10, 16)
		upTo, errUpTo := strconv.ParseUint(last, 10, 16)
		if errFrom != nil || errUpTo != nil || from == 0 || from > upTo {
			return policy.PortRange{}, &complaint{"want a port or a range of ports, got " + describe(n),
				"write 1 to 65535, or FIRST-LAST such as 8000-8100"}
		}
		return policy.PortRange{First: uint16(from), Last: uint16(upTo)}, nil
	})
}

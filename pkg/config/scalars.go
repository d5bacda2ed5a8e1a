package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
	"github.com/weir-limiter/weir/pkg/policy"
)

// complaint is why a text is not the value that was wanted.
type complaint struct{ problem, mend string }

// scalar reads a single value through parse.
func scalar[T any](to *T, want string, parse func(*yaml.Node) (T, *complaint)) into {
	return func(d *decoder, c cursor) {
		if c.node.Kind != yaml.ScalarNode {
			d.fail(c, fmt.Sprintf("want %s, got %s", want, yamlfile.Describe(c.node)), "write a single value")
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
			return "", &complaint{"want text, got " + yamlfile.Describe(n), fmt.Sprintf("put it in quotes: %q", policy.Shorten(n.Value))}
		}
		return n.Value, nil
	})
}

// boolean reads true or false.
func boolean(to *bool) into {
	return scalar(to, "true or false", func(n *yaml.Node) (bool, *complaint) {
		if n.ShortTag() != "!!bool" {
			return false, &complaint{"want true or false, got " + yamlfile.Describe(n), "write true or false without quotes"}
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
			return "", &complaint{"unknown value " + policy.Quote(n.Value), mend}
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
			return 0, &complaint{"want a whole number, got " + yamlfile.Describe(n), "write digits only, such as 10 or -10"}
		}
		v, err := strconv.ParseInt(n.Value, 10, 32)
		switch {
		case err != nil && negative:
			return 0, &complaint{policy.Shorten(n.Value) + " is too small", fmt.Sprintf("write at least %d", math.MinInt32)}
		case err != nil:
			return 0, &complaint{policy.Shorten(n.Value) + " is too large", fmt.Sprintf("write at most %d", math.MaxInt32)}
		}
		return int(v), nil
	})
}

// parseWhole accepts decimal digits only. YAML's other spellings differ between
// its versions: 010 is eight in one and ten in another.
func parseWhole(n *yaml.Node, most uint64) (uint64, *complaint) {
	digits := n.Value != "" && strings.Trim(n.Value, "0123456789") == ""
	switch {
	case digits && yamlfile.Quoted(n):
		return 0, &complaint{fmt.Sprintf("want a whole number, got the text %s", policy.Quote(n.Value)), "remove the quotes"}
	case digits && len(n.Value) > 1 && n.Value[0] == '0':
		return 0, &complaint{fmt.Sprintf("want a whole number, got %s, which YAML may read as octal", policy.Shorten(n.Value)),
			"remove the leading zeroes"}
	case digits:
		v, err := strconv.ParseUint(n.Value, 10, 64)
		if err != nil || v > most {
			return 0, &complaint{policy.Shorten(n.Value) + " is too large", fmt.Sprintf("write at most %d", most)}
		}
		return v, nil
	case strings.HasPrefix(n.Value, "-") && n.ShortTag() != "!!str":
		return 0, &complaint{"must not be negative, got " + policy.Shorten(n.Value), "remove the minus"}
	default:
		return 0, &complaint{"want a whole number, got " + yamlfile.Describe(n), "write digits only, such as 1000"}
	}
}

// span reads a duration.
func span(to *time.Duration) into {
	return scalar(to, "a duration", func(n *yaml.Node) (time.Duration, *complaint) {
		return orComplaint(policy.ParseDuration(n.Value))
	})
}

// prefix reads an address or a prefix.
func prefix(to *netip.Prefix) into {
	return scalar(to, "a prefix", func(n *yaml.Node) (netip.Prefix, *complaint) {
		return orComplaint(policy.ParsePrefix(n.Value))
	})
}

// ports reads a port or FIRST-LAST.
func ports(to *policy.PortRange) into {
	return scalar(to, "a port", func(n *yaml.Node) (policy.PortRange, *complaint) {
		return orComplaint(policy.ParsePorts(n.Value))
	})
}

// protocol reads the name of a protocol, or its number, which need not be
// quoted: ProtocolNumber knows the one way to write it.
func protocol(to *string) into {
	return func(d *decoder, c cursor) {
		if c.node.ShortTag() == "!!int" {
			*to = c.node.Value
			return
		}
		text(to)(d, c)
	}
}

// orComplaint turns the error of one of the domain's readers into a complaint.
func orComplaint[T any](v T, err error) (T, *complaint) {
	if err == nil {
		return v, nil
	}
	if bad, ok := errors.AsType[*policy.TextError](err); ok {
		return v, &complaint{bad.Problem, bad.Mend}
	}
	return v, &complaint{err.Error(), "write it differently"}
}

package policy

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// TextError is why a text is not the value that was wanted.
type TextError struct {
	// Problem says what is wrong with the text.
	Problem string
	// Mend says what to do about it.
	Mend string
}

// Error returns problem and mend in one line.
func (e *TextError) Error() string { return e.Problem + "; " + e.Mend }

// ParseDuration reads a duration as the configuration file writes it: the form
// of [time.ParseDuration] with days before it, such as "500ms", "90s", "1h30m",
// "30d" or "1d12h". Days are of 24 hours. A negative duration is an error, and
// every error is a *[TextError].
func ParseDuration(s string) (time.Duration, error) {
	const (
		day  = 24 * time.Hour
		form = "write a number and a unit of ns, us, ms, s, m, h or d, such as 500ms, 1s, 1h30m or 30d"
	)
	tooLong := &TextError{Quote(s) + " is too long for a duration", fmt.Sprintf("write at most %dd", math.MaxInt64/day)}
	malformed := &TextError{"want a duration, got " + Quote(s), form}

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
		return 0, &TextError{"must not be negative, got " + Quote(s), "remove the minus"}
	case more > math.MaxInt64-total:
		return 0, tooLong
	}
	return total + more, nil
}

// ParsePrefix reads a source as the configuration file writes it: an address,
// which stands for itself alone, or ADDRESS/LENGTH without host bits. IPv6
// zones and IPv4 inside IPv6 are errors, and every error is a *[TextError].
func ParsePrefix(s string) (netip.Prefix, error) {
	const form = "write an address or a prefix such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"
	if addr, err := netip.ParseAddr(s); err == nil {
		switch {
		case addr.Zone() != "":
			return netip.Prefix{}, &TextError{Quote(s) + " has a zone, which a packet does not carry", "write " + addr.WithZone("").String()}
		case addr.Is4In6():
			return netip.Prefix{}, &TextError{Quote(s) + " is IPv4 written as IPv6", "write " + addr.Unmap().String()}
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, &TextError{"want an address or a prefix, got " + Quote(s), form}
	case p.Addr().Is4In6():
		return netip.Prefix{}, &TextError{Quote(s) + " is IPv4 written as IPv6", "write the IPv4 prefix"}
	case p != p.Masked():
		return netip.Prefix{}, &TextError{Quote(s) + " has bits set behind its prefix length", "write " + p.Masked().String()}
	}
	return p, nil
}

// Shorten makes a text that others chose fit for a message: short enough to read.
func Shorten(s string) string {
	const longest = 60
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "..."
}

// Quote returns s as a Go string literal, which cannot disturb a terminal, shortened as [Shorten] does.
func Quote(s string) string { return strconv.Quote(Shorten(s)) }

// legible returns s as it is if it is short and plain, and else as Quote does.
func legible(s string) string {
	if q := Quote(s); q != `"`+s+`"` || s == "" || strings.Contains(s, " ") {
		return q
	}
	return s
}

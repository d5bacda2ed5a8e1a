package identity

import (
	"net/netip"
	"strings"
)

// cutLastElement cuts off the last element of a Forwarded header (RFC 7239, section 4), whose quoted strings
// may have commas in them. It reads from the right: what trusted proxies appended is understood whatever a
// client wrote before it, an open quote included.
func cutLastElement(s string) (before, element string, more bool) {
	quoted := false
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case '"':
			if !quoted || !escaped(s[:i]) {
				quoted = !quoted
			}
		case ',':
			if !quoted {
				return s[:i], s[i+1:], true
			}
		}
	}
	return "", s, false
}

// escaped tells whether the character behind s is, by an odd number of backslashes.
func escaped(s string) bool { return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1 }

// forwardedFor is the address in the parameter for of one element. Blanks around semicolons are allowed, and IPv6 without quotes:
// some proxies write them. Everything else that the grammar does not have makes the element one without an address.
func forwardedFor(element string) (netip.Addr, bool) {
	var addr netip.Addr
	found := false
	for rest := element; rest != ""; {
		var name, value string
		var ok bool
		if name, value, rest, ok = cutPair(rest); !ok {
			return netip.Addr{}, false
		}
		if !strings.EqualFold(name, "for") {
			continue
		}
		if found { // the parameter may be there once
			return netip.Addr{}, false
		}
		if addr, found = parseNode(value); !found {
			return netip.Addr{}, false
		}
	}
	return addr, found
}

// cutPair cuts a pair of name and value off the front of an element, with the semicolon behind it. An empty
// pair is one, without a name.
func cutPair(s string) (name, value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	if s == "" || s[0] == ';' {
		return "", "", strings.TrimPrefix(s, ";"), true
	}
	name, s, ok = strings.Cut(s, "=")
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }) {
		return "", "", "", false
	}
	if strings.HasPrefix(s, `"`) {
		if value, s, ok = cutQuoted(s[1:]); !ok {
			return "", "", "", false
		}
		s = strings.TrimLeft(s, " \t")
		if s != "" && s[0] != ';' {
			return "", "", "", false
		}
		return name, value, strings.TrimPrefix(s, ";"), true
	}
	value, rest, _ = strings.Cut(s, ";")
	value = trimBlanks(value)
	return name, value, rest, value != "" && !strings.ContainsAny(value, "\"\\,= \t")
}

// cutQuoted reads a quoted string whose opening quote is gone, and resolves its escapes.
func cutQuoted(s string) (value, rest string, ok bool) {
	end := 0
	for ; end < len(s) && s[end] != '"'; end++ {
		if s[end] == '\\' {
			end++
		}
	}
	if end >= len(s) {
		return "", "", false
	}
	value, rest = s[:end], s[end+1:]
	if strings.IndexByte(value, '\\') < 0 {
		return value, rest, true
	}
	plain := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '\\' {
			i++
		}
		plain = append(plain, value[i])
	}
	return string(plain), rest, true
}

package policy

import "strings"

// CleanEndpoint returns the one way to write the path of a request, so that no other spelling of it has
// a bucket of its own or slips past a pattern. Query and fragment are cut off, and so are scheme and host
// of a whole URL; dot segments are resolved and never lead above the root; slashes are joined. Of the
// octets that a path can carry as they are (pchar of RFC 3986) none is escaped, and all others are, with
// capitals: what it returns is printable ASCII.
//
// Give it the path as the client wrote it, not one that was decoded already. A trailing slash stays, since
// servers tell the two apart. The empty text, which stands for a path that nobody knows, stays too. It
// allocates only if a segment has to be changed.
func CleanEndpoint(endpoint string) string {
	if endpoint == "" || isClean(endpoint) {
		return endpoint
	}
	path := cutToPath(endpoint)
	if path == "" {
		return "/"
	}
	if isClean(path) {
		return path
	}
	return rewritePath(path)
}

// cutToPath takes off what is not the path.
func cutToPath(endpoint string) string {
	if i := strings.IndexAny(endpoint, "?#"); i >= 0 {
		endpoint = endpoint[:i]
	}
	scheme, rest, found := strings.Cut(endpoint, "://")
	if !found || !isScheme(scheme) {
		return endpoint
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return ""
}

func isScheme(s string) bool {
	return s != "" && isLetter(s[0]) && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r < 0x80 && (isLetter(byte(r)) || isDigit(byte(r))) || strings.ContainsRune("+-.", r))
	})
}

// isClean reports whether a path is written as CleanEndpoint would write it.
func isClean(path string) bool {
	if path[0] != '/' {
		return false
	}
	start := 1 // of the segment
	for i := 1; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if dotSegment(path[start:i]) || start == i {
				return false
			}
			start = i + 1
		case c == '%':
			octet, ok := unescape(path[i:])
			if !ok || isPathChar(octet) || isLower(path[i+1]) || isLower(path[i+2]) {
				return false
			}
			i += 2
		case !isPathChar(c):
			return false
		}
	}
	return !dotSegment(path[start:])
}

func dotSegment(s string) bool { return s == "." || s == ".." }

// rewritePath is RFC 3986's section 6.2.2, with slashes joined.
func rewritePath(path string) string {
	out := make([]byte, 0, len(path)+1)
	for rest, more := path, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		start := len(out)
		out = appendSegment(append(out, '/'), segment)
		switch string(out[start+1:]) {
		case "", ".":
			out = out[:start]
		case "..":
			out = parentOf(out[:start])
		default:
			continue
		}
		if !more {
			out = append(out, '/') // "/a/", "/a/." and "/a/b/.." are the same
		}
	}
	return string(out)
}

// parentOf cuts off the last segment, if there is one.
func parentOf(path []byte) []byte {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return path
}

func appendSegment(out []byte, segment string) []byte {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(segment); i++ {
		octet, escaped := segment[i], false
		if octet == '%' {
			// A per cent sign that begins no escape stands for itself.
			if octet, escaped = unescape(segment[i:]); escaped {
				i += 2
			} else {
				octet = '%'
			}
		}
		if isPathChar(octet) {
			out = append(out, octet)
		} else {
			out = append(out, '%', digits[octet>>4], digits[octet&15])
		}
	}
	return out
}

// unescape returns the octet of an escape that s begins with.
func unescape(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	high, low := hexDigit(s[1]), hexDigit(s[2])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

func hexDigit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// isPathChar reports whether an octet may stand in a segment as it is: pchar of RFC 3986.
func isPathChar(c byte) bool { return pathChars[c>>6]&(1<<(c&63)) != 0 }

// pathChars is a set of octets, a bit each.
var pathChars = func() (set [4]uint64) {
	for c := range 128 {
		if b := byte(c); isLetter(b) || isDigit(b) || strings.IndexByte("-._~!$&'()*+,;=:@", b) >= 0 {
			set[b>>6] |= 1 << (b & 63)
		}
	}
	return set
}()

func isLetter(c byte) bool { return isLower(c) || 'A' <= c && c <= 'Z' }
func isLower(c byte) bool  { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

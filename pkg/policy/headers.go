package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxHeaders is how many headers a policy may add to an answer.
const MaxHeaders = 32

// takenHeader says why a policy can't set a header of this name, written in
// small letters; empty if it can. X-RateLimit-Policy is not among them: a
// policy may be shown under another name.
func takenHeader(name string) string {
	switch name {
	case "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
		"transfer-encoding", "upgrade":
		return "belongs to the connection, not to the answer"
	case "content-length", "content-type", "content-encoding", "content-range", "date", "host":
		return "would not be true of the answer that it stands in"
	case "retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-shadow":
		return "is set by weir itself"
	case "set-cookie", "set-cookie2", "www-authenticate", "authorization":
		return "is about one client, and the policy would send it to all"
	}
	if strings.HasPrefix(name, "grpc-") {
		return "is kept for gRPC itself"
	}
	return ""
}

// checkHeaders keeps a header from ending early and starting another one, and
// from breaking the answer that it is put on.
func (p Policy) checkHeaders(fs *faults) {
	if n := len(p.Headers); n > MaxHeaders {
		fs.add("headers", fmt.Sprintf("has %d entries", n), fmt.Sprintf("write at most %d", MaxHeaders))
	}
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
		path := fmt.Sprintf("headers[%q]", name)
		small := strings.ToLower(name)
		switch taken := takenHeader(small); {
		case !headerToken(name):
			fs.add(path, "is not an HTTP header name", `use letters, digits and "-"`)
		case taken != "":
			fs.add(path, taken, "remove it")
		case first[small] != "":
			fs.add(path, fmt.Sprintf("is %s in other letters", Quote(first[small])), "remove one of the two")
		}
		first[small] = name
		switch value := p.Headers[name]; {
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			fs.add(path, "has a control character in its value", "remove it")
		case utf8.ValidString(value) && strings.ContainsFunc(value, func(r rune) bool { return r > 0x7f }):
			fs.add(path, "has a character in its value that is not ASCII, which clients read differently", "write it in ASCII")
		}
	}
}

// headerToken is stricter than RFC 9110's token: names that need more than
// this are not worth the surprises.
func headerToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

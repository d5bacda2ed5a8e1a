package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	"github.com/weir-limiter/weir/pkg/policy"
)

// FieldError is why a request has no context: something that it says of itself can't be used. It is the
// client's fault, or that of its trusted proxy, and nobody else's request fails of it.
type FieldError struct {
	Field   string // the header, or "path", "method"
	Problem string
	Mend    string
}

// Error returns field, problem and mend in one line. It has nothing of the value in it.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem + "; " + e.Mend }

var (
	errNoHeader = errors.New("no header is named (name one, or remove the entry)")
	errNoName   = errors.New("the name is empty (name it, or remove the entry)")
)

// header is the name of a header, as the two protocols spell it. The zero value is one that no request has.
type header struct {
	canonical string // net/http
	lower     string // gRPC metadata
}

// The headers whose names are not a matter of configuration.
var (
	forwardedForHeader    = mustHeader("X-Forwarded-For")
	forwardedHeader       = mustHeader("Forwarded")
	realIPHeader          = mustHeader("X-Real-Ip")
	forwardedMethodHeader = mustHeader("X-Forwarded-Method")
	originalMethodHeader  = mustHeader("X-Original-Method")
	forwardedURIHeader    = mustHeader("X-Forwarded-Uri")
	originalURIHeader     = mustHeader("X-Original-Uri")
	originalURLHeader     = mustHeader("X-Original-Url")
	forwardedHostHeader   = mustHeader("X-Forwarded-Host")
	hostHeader            = mustHeader("Host")
)

func mustHeader(name string) header {
	return header{canonical: http.CanonicalHeaderKey(name), lower: strings.ToLower(name)}
}

func newHeader(name string) (header, error) {
	if name == "" {
		return header{}, nil
	}
	if len(name) > 256 || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }) {
		return header{}, fmt.Errorf("%.60q can't be the name of a header (use letters, digits and hyphens, at most 256)", name)
	}
	return mustHeader(name), nil
}

// isTokenRune tells what RFC 9110, section 5.6.2, makes a token of.
func isTokenRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r < utf8.RuneSelf && strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// headers are those of a request of either protocol.
type headers struct {
	http http.Header
	host string          // of an HTTP request: net/http keeps it apart
	grpc context.Context // nil: it is an HTTP request
}

// values are the lines of a header. They must not be changed.
func (h *headers) values(of header) []string {
	switch {
	case of.canonical == "":
		return nil
	case h.grpc == nil:
		return h.http[of.canonical]
	case of == hostHeader:
		return metadata.ValueFromIncomingContext(h.grpc, ":authority")
	}
	return metadata.ValueFromIncomingContext(h.grpc, of.lower)
}

// one is the value of a header that has one; empty if it is not there.
func (h *headers) one(of header) (string, error) {
	values := h.values(of)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], checkText(of.canonical, values[0])
	}
	// Which of them is the proxy's, and which the client's own, can't be told.
	return "", &FieldError{of.canonical, fmt.Sprintf("is there %d times", len(values)), "send it once; a proxy has to replace it, not to add another"}
}

// hostName is the host that a trusted proxy says the request is for, or that it was sent to.
func (h *headers) hostName() (string, error) {
	if host, err := h.one(forwardedHostHeader); host != "" || err != nil {
		return host, err
	}
	if h.grpc != nil {
		return h.one(hostHeader)
	}
	return h.host, checkText(hostHeader.canonical, h.host)
}

// checkText says why a text can't be part of a context; nil if it can.
func checkText(field, s string) error {
	if len(s) > policy.MaxText {
		return &FieldError{field, fmt.Sprintf("has %d bytes", len(s)), fmt.Sprintf("shorten it to at most %d", policy.MaxText)}
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return checkRunes(field, s)
		}
	}
	return nil
}

func checkRunes(field, s string) error {
	switch {
	case strings.ContainsFunc(s, unicode.IsControl):
		return &FieldError{field, "has a control character in it", "remove it"}
	case !utf8.ValidString(s):
		return &FieldError{field, "is not UTF-8", "write it in UTF-8"}
	}
	return nil
}

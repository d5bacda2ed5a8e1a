package identity

import (
	"strings"
)

// originalMethod is the method of the request that a trusted peer asks about; without being told, that of
// the question.
func (h *headers) originalMethod(own string) (string, error) {
	return h.agreed(own, strings.ToUpper, forwardedMethodHeader, originalMethodHeader)
}

// originalPath is the path of the request that a trusted peer asks about, without its query, which may be
// longer than a context can be.
func (h *headers) originalPath(own string) (string, error) {
	return h.agreed(own, pathOf, forwardedURIHeader, originalURIHeader, originalURLHeader)
}

// agreed is what the headers that are there say, each as read reads it. A proxy sets one of them, and may let
// through another that the client made up. Which is which can't be told here, so a request that has two, and they
// differ, is nobody's but the client's fault.
func (h *headers) agreed(own string, read func(string) string, from ...header) (string, error) {
	said, by := "", ""
	for _, of := range from {
		raw, err := h.first(of)
		if err != nil {
			return "", err
		}
		if raw == "" {
			continue
		}
		value := read(raw)
		switch {
		case value == "":
			return "", &FieldError{of.canonical, "is not what it is for", "have the proxy send the request's own, as docs/integrations shows"}
		case by == "":
			said, by = value, of.canonical
		case said != value:
			return "", &FieldError{of.canonical, "contradicts " + by, "have the proxy set one of the two, and remove the other from what clients send"}
		}
	}
	if by == "" {
		return own, nil
	}
	return said, nil
}

// first is the value of a header that has one, however long: the query that is cut off it later may be.
func (h *headers) first(of header) (string, error) {
	values := h.values(of)
	if len(values) == 1 {
		return values[0], nil
	}
	return h.one(of) // none, or why not several
}

// pathOf cuts the path out of a request target or a URL; empty if it is neither. A fragment goes with the
// query.
func pathOf(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	if strings.HasPrefix(s, "/") || s == "*" {
		return s
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return ""
	}
	host, path, ok := strings.Cut(rest, "/")
	switch {
	case host == "":
		return ""
	case !ok:
		return "/"
	}
	return rest[len(host):][:len(path)+1]
}

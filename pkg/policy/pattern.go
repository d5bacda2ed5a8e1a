package policy

import (
	"fmt"
	"strings"
)

// maxPatternSegments bounds the work of matching a pattern with variables.
const maxPatternSegments = 32

// EndpointPattern is an entry of match.endpoints, understood: "/login" is that path alone, "/api/*" all
// that begins with "/api/", and "/users/{id}/posts" has any one segment in the place of {id}. It is made
// by [ParseEndpoint], and the zero value matches nothing.
type EndpointPattern struct {
	text    string
	literal string   // the path or prefix up to the first variable
	rest    []string // what follows each variable, from "/" on; empty only behind the last one
	open    bool     // it ends in "*"
}

// ParseEndpoint reads a pattern of paths. It is held against what [CleanEndpoint] returns, so it may be
// written with or without escapes ("%2A" is a star that means itself). Every error is a *[TextError].
func ParseEndpoint(pattern string) (EndpointPattern, error) {
	if err := checkPattern(pattern); err != nil {
		return EndpointPattern{}, err
	}
	path, open := strings.CutSuffix(pattern, "*")
	segments := strings.Split(path[1:], "/")
	var literals []string // between the variables
	literal := ""
	for i, segment := range segments {
		last := i == len(segments)-1
		isVariable, err := readVariable(segment)
		if err == nil && isVariable && last && open {
			err = &TextError{Quote(segment+"*") + " is a variable and more in one segment", "write " + Quote(segment+"/*")}
		}
		if err != nil {
			return EndpointPattern{}, err
		}
		if isVariable {
			literals, literal = append(literals, literal+"/"), ""
			continue
		}
		segment = string(appendSegment(nil, segment))
		if dotSegment(segment) && !(last && open) || segment == "" && !last {
			return EndpointPattern{}, &TextError{Quote(pattern) + " has an empty segment or one of dots, which no request has", "write the path that is left without it"}
		}
		literal += "/" + segment
	}
	if len(literals) > 0 && len(segments) > maxPatternSegments {
		return EndpointPattern{}, &TextError{fmt.Sprintf("%s has %d segments, and variables among them", Quote(pattern), len(segments)),
			fmt.Sprintf("shorten it to at most %d", maxPatternSegments)}
	}
	literals = append(literals, literal)
	return EndpointPattern{text: pattern, literal: literals[0], rest: literals[1:], open: open}, nil
}

// checkPattern judges what can be seen without taking the pattern apart.
func checkPattern(pattern string) error {
	switch star := strings.IndexByte(pattern, '*'); {
	case len(pattern) > MaxText:
		return tooLong(pattern)
	case !strings.HasPrefix(pattern, "/"):
		return &TextError{Quote(pattern) + " is not a path", `start it with "/"`}
	case strings.ContainsAny(pattern, "?#"):
		return &TextError{Quote(pattern) + " has a query or fragment, which is no part of a path", "cut it off"}
	case star >= 0 && star < len(pattern)-1:
		return &TextError{Quote(pattern) + ` has a "*" before its end`, "write {name} for a whole segment, and %2A for a star that means itself"}
	}
	return nil
}

func tooLong(text string) *TextError {
	return &TextError{fmt.Sprintf("%s has %d bytes", Quote(text), len(text)), fmt.Sprintf("shorten it to at most %d", MaxText)}
}

// readVariable reports whether a segment is {name}.
func readVariable(segment string) (bool, error) {
	opens, closes := strings.Count(segment, "{"), strings.Count(segment, "}")
	switch {
	case opens+closes == 0:
		return false, nil
	case opens > closes:
		return false, &TextError{Quote(segment) + " has a brace that is not closed", "write {name} for a whole segment, or %7B for a brace"}
	case opens < closes:
		return false, &TextError{Quote(segment) + " closes a brace that is not open", "write {name} for a whole segment, or %7D for a brace"}
	case opens > 1 || segment[0] != '{' || segment[len(segment)-1] != '}':
		return false, &TextError{Quote(segment) + " is a variable and more in one segment", "write {name} for a whole segment"}
	case segment == "{}":
		return false, &TextError{"a variable has no name", "write {name}"}
	}
	for _, c := range []byte(segment[1 : len(segment)-1]) {
		if !isLetter(c) && !isDigit(c) && c != '_' && c != '-' {
			return false, &TextError{Quote(segment) + " is not the name of a variable", `use letters, digits, "_" and "-"`}
		}
	}
	return true, nil
}

// String returns the pattern as it was written.
func (p EndpointPattern) String() string { return p.text }

// Exact returns the only path that the pattern matches, and false if there are more.
func (p EndpointPattern) Exact() (path string, ok bool) {
	return p.literal, !p.open && len(p.rest) == 0 && p.text != ""
}

// Prefix returns what every path that the pattern matches begins with.
func (p EndpointPattern) Prefix() string { return p.literal }

// Match reports whether a path is one of the pattern's. The path is as [CleanEndpoint] returns it. It does
// not allocate.
func (p EndpointPattern) Match(path string) bool {
	if p.text == "" {
		return false
	}
	path, ok := strings.CutPrefix(path, p.literal)
	for _, literal := range p.rest {
		if !ok {
			return false
		}
		end := strings.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		if end == 0 {
			return false // a variable stands for something
		}
		path, ok = strings.CutPrefix(path[end:], literal)
	}
	return ok && (p.open || path == "")
}

package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxSplit bounds the work of reading a key, in bytes.
const maxSplit = 4 * MaxText

// Split finds what Expand made a text of: the values of the fields, in their order. It fails with a
// *[TextError] if there is no way to read the text, or more than one: "{user}:{role}" can make "a:b:c"
// in two ways. That an endpoint begins with a slash, and what can be a method or an address, tells some of them
// apart.
func (t Template) Split(text string) ([]string, error) {
	if len(text) > maxSplit {
		return nil, &TextError{fmt.Sprintf("%s has %d bytes", Quote(text), len(text)), fmt.Sprintf("shorten it to at most %d", maxSplit)}
	}
	ways := t.ways(text)
	switch ways[0][0] {
	case 0:
		return nil, &TextError{Quote(text) + " is no key of " + Quote(t.text), "write it with a value in the place of each field"}
	case 2:
		return nil, &TextError{Quote(text) + " can be read as a key of " + Quote(t.text) + " in more than one way", "write the value of each field by itself"}
	}
	var values []string
	start := 0
	for i, p := range t.parts {
		end := start + len(p.Text)
		if p.Field != FieldText {
			for end = start + 1; ways[i+1][end] == 0 || !p.can(text[start:end]); end++ {
			}
			values = append(values, text[start:end])
		}
		start = end
	}
	return values, nil
}

// ways counts, for each part and each place in the text, how the parts from there on make the rest of the
// text: not at all, in one way, or in 2 or more.
func (t Template) ways(text string) [][]uint8 {
	then := make([]uint8, len(text)+1)
	then[len(text)] = 1
	ways := make([][]uint8, len(t.parts)+1)
	ways[len(t.parts)] = then
	for i := len(t.parts) - 1; i >= 0; i-- {
		then = t.parts[i].ways(text, then)
		ways[i] = then
	}
	return ways
}

// ways counts for one part what it makes of then, the ways of the parts behind it.
func (p TemplatePart) ways(text string, then []uint8) []uint8 {
	here := make([]uint8, len(then))
	behind := uint8(0) // how many ways there are from all places behind this one
	for start := len(text); start >= 0; start-- {
		switch p.Field {
		case FieldText:
			if strings.HasPrefix(text[start:], p.Text) {
				here[start] = then[start+len(p.Text)]
			}
		case FieldMethod, FieldIP:
			here[start] = p.waysNear(text, start, then)
		case FieldEndpoint:
			if start < len(text) && text[start] == '/' {
				here[start] = behind
			}
		default:
			here[start] = behind
		}
		behind = min(2, behind+then[start])
	}
	return here
}

// waysNear counts the ways of a part that is short, and starts at a place.
func (p TemplatePart) waysNear(text string, start int, then []uint8) (n uint8) {
	const longest = 64 // of an address, and of any method
	for end := start + 1; end <= min(len(text), start+longest) && n < 2; end++ {
		if then[end] > 0 && p.can(text[start:end]) {
			n = min(2, n+then[end])
		}
	}
	return n
}

// can reports whether a field can have a value.
func (p TemplatePart) can(value string) bool {
	switch p.Field {
	case FieldEndpoint:
		return value[0] == '/'
	case FieldMethod:
		return isMethod(value)
	case FieldIP:
		_, err := netip.ParseAddr(value)
		return err == nil
	}
	return true
}

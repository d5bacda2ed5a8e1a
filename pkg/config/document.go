package config

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
)

// maxDepth bounds the nesting of the file. The schema needs 5 levels.
const maxDepth = 32

// document returns the content of the one YAML document in data, or reports why
// there is none and returns nil.
func (d *decoder) document(data []byte) *yaml.Node {
	start := position{1, 1}
	if len(data) > MaxFileSize {
		d.failAt(start, "", fmt.Sprintf("the file is larger than %d bytes", MaxFileSize), "make it smaller")
		return nil
	}
	if at, ok := firstInvalid(data); ok {
		d.failAt(at, "", "the file is not UTF-8 text", "save it as UTF-8")
		return nil
	}
	docs, err := yamlfile.Documents(data, maxDepth)
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	if yamlfile.IsEmpty(docs) {
		d.failAt(start, "", "the file is empty", `write at least "policies: []"`)
		return nil
	}
	if len(docs) > 1 {
		d.failAt(nodePosition(docs[1]), "", "a second document begins here", `keep one document and remove the "---" between them`)
		return nil
	}
	return docs[0].Content[0]
}

func (d *decoder) syntaxError(err error) {
	at, problem := position{1, 1}, err.Error()
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		problem = e.Message
		if e.ContextMsg != "" {
			problem += " " + e.ContextMsg
		}
		if e.ContextMark.Line > 0 && e.ContextMark != e.Mark {
			problem += fmt.Sprintf(" that begins at %d:%d", e.ContextMark.Line, e.ContextMark.Column)
		}
		if e.Mark.Line > 0 {
			at = position{e.Mark.Line, e.Mark.Column}
		}
	}
	d.failAt(at, "", "not valid YAML: "+problem, "mend the syntax at or before this place")
}

// firstInvalid returns the place of the first byte that is not UTF-8.
func firstInvalid(data []byte) (position, bool) {
	if utf8.Valid(data) {
		return position{}, false
	}
	at := position{1, 1}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return at, true
		case r == '\n':
			at = position{at.line + 1, 1}
		default:
			at.column++
		}
		data = data[size:]
	}
	return at, false
}

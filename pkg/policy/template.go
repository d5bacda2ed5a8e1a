package policy

import (
	"fmt"
	"slices"
	"strings"
)

// TemplateField is what a part of a [Template] stands for.
type TemplateField string

// The fields of a template. FieldMetadata is written with the name of an entry: {metadata.tenant}.
const (
	FieldText     TemplateField = "" // no field, but a text of its own
	FieldUser     TemplateField = "user"
	FieldRole     TemplateField = "role"
	FieldAPIKey   TemplateField = "api_key" // as the context has it: a digest
	FieldEndpoint TemplateField = "endpoint"
	FieldMethod   TemplateField = "method"
	FieldIP       TemplateField = "ip"  // the whole address
	FieldKey      TemplateField = "key" // what the caller named itself
	FieldMetadata TemplateField = "metadata"
)

// TemplateFields returns what can stand in braces, as messages list it.
func TemplateFields() []string {
	return []string{"user", "role", "api_key", "endpoint", "method", "ip", "key", "metadata.NAME"}
}

// maxTemplateParts bounds the work of making a key.
const maxTemplateParts = 32

// Template makes the key of a bucket from a request: the key of a policy of scope custom, understood. It
// is made by [ParseTemplate]; the zero value makes no key.
type Template struct {
	text  string
	parts []TemplatePart
}

// TemplatePart is a field, or the text between two.
type TemplatePart struct {
	Field TemplateField
	// Text is what to write if Field is FieldText, and the name of the entry if it is FieldMetadata.
	Text string
}

// ParseTemplate reads a template such as "{user}:{endpoint}". "{{" and "}}" stand for braces. A template
// without any field is an error, since everything would share one bucket. Every error is a *[TextError]
// whose place counts bytes from 1.
func ParseTemplate(text string) (Template, error) {
	if len(text) > MaxText {
		return Template{}, tooLong(text)
	}
	t := Template{text: text}
	literal := ""
	flush := func() {
		if literal != "" {
			t.parts, literal = append(t.parts, TemplatePart{Text: literal}), ""
		}
	}
	for at := 0; at < len(text); {
		c, doubled := text[at], strings.HasPrefix(text[at+1:], text[at:at+1])
		switch {
		case c != '{' && c != '}':
			literal += text[at : at+1]
			at++
		case doubled:
			literal += text[at : at+1]
			at += 2
		case c == '}':
			return Template{}, &TextError{fmt.Sprintf("byte %d closes a brace that is not open", at+1), `write "}}" for a brace`}
		default:
			part, length, err := readField(text, at)
			if err != nil {
				return Template{}, err
			}
			flush()
			t.parts = append(t.parts, part)
			at += length
		}
	}
	flush()
	if err := t.check(); err != nil {
		return Template{}, err
	}
	return t, nil
}

// readField reads the field whose brace opens at an offset, and returns how long it is with its braces.
func readField(text string, at int) (part TemplatePart, length int, err error) {
	name, _, closed := strings.Cut(text[at+1:], "}")
	if open := strings.IndexByte(name, '{'); !closed || open >= 0 {
		return part, 0, &TextError{fmt.Sprintf("the brace at byte %d is not closed", at+1), `write {name}, or "{{" for a brace`}
	}
	part = TemplatePart{Field: TemplateField(name)}
	if entry, isMetadata := strings.CutPrefix(name, "metadata."); isMetadata {
		part = TemplatePart{FieldMetadata, entry}
		if entry == "" {
			return part, 0, &TextError{fmt.Sprintf("{metadata.} at byte %d has no name", at+1), "write such as {metadata.tenant}"}
		}
	} else if !slices.Contains(TemplateFields(), name) {
		return part, 0, &TextError{fmt.Sprintf("unknown field %s at byte %d", Quote(name), at+1), "use one of " + strings.Join(TemplateFields(), ", ")}
	}
	return part, len(name) + 2, nil
}

// check judges the whole of a template.
func (t Template) check() error {
	switch {
	case len(t.parts) > maxTemplateParts:
		return &TextError{fmt.Sprintf("has %d fields and texts between them", len(t.parts)), fmt.Sprintf("write at most %d", maxTemplateParts)}
	case !slices.ContainsFunc(t.parts, func(p TemplatePart) bool { return p.Field != FieldText }):
		return &TextError{Quote(t.text) + " has no field: everything would share one bucket",
			`write at least one of ` + strings.Join(TemplateFields(), ", ") + ` in braces, or set "scope: global"`}
	}
	return nil
}

// String returns the template as it was written.
func (t Template) String() string { return t.text }

// Parts returns fields and texts in their order, texts that follow one another joined. The slice is the
// template's own, and must not be changed.
//
// Two requests have one bucket if every field of theirs is the same. Who hashes a key has to hash the
// length of each field too: "{user}:{endpoint}" makes the same text of "a:" and "b" as of "a" and ":b".
func (t Template) Parts() []TemplatePart { return t.parts }

// String returns the part as a template has it.
func (p TemplatePart) String() string {
	switch p.Field {
	case FieldText:
		return strings.NewReplacer("{", "{{", "}", "}}").Replace(p.Text)
	case FieldMetadata:
		return "{metadata." + p.Text + "}"
	default:
		return "{" + string(p.Field) + "}"
	}
}

// Value returns what the part is in a request, whose endpoint must be clean (see [CleanEndpoint]); empty if
// it is not known. It does not allocate, but for FieldIP, whose text has to be made: who hashes takes the
// context's address.
func (p TemplatePart) Value(key string, r *RequestContext) string {
	switch p.Field {
	case FieldText:
		return p.Text
	case FieldUser:
		return r.UserID
	case FieldRole:
		return r.UserRole
	case FieldAPIKey:
		return r.APIKey
	case FieldEndpoint:
		return r.Endpoint
	case FieldMethod:
		return r.Method
	case FieldKey:
		return key
	case FieldMetadata:
		return r.Metadata[p.Text]
	case FieldIP:
		if r.ClientIP.IsValid() {
			return r.ClientIP.String()
		}
	}
	return ""
}

// Expand returns the key of a request as people write it, or the first field that is not known, such as
// "{metadata.tenant}". An empty value is one that is not known.
func (t Template) Expand(key string, r *RequestContext) (expanded, missing string) {
	clean := *r
	clean.Endpoint = CleanEndpoint(r.Endpoint)
	var out strings.Builder
	for _, p := range t.parts {
		value := p.Value(key, &clean)
		if value == "" {
			return "", p.String()
		}
		out.WriteString(value)
	}
	return out.String(), ""
}

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// FieldError is what is wrong with a value of a JSON text.
type FieldError struct {
	// Path names the value, such as "policies[2].match.ports[0]".
	Path string
	// Err says what is wrong.
	Err error
}

// Error returns path and problem in one line.
func (e *FieldError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the problem.
func (e *FieldError) Unwrap() error { return e.Err }

// atField places an error in the field of an object.
func atField(name string, err error) error {
	if inner, ok := errors.AsType[*FieldError](err); ok {
		separator := "."
		if strings.HasPrefix(inner.Path, "[") {
			separator = ""
		}
		return &FieldError{name + separator + inner.Path, inner.Err}
	}
	return &FieldError{name, err}
}

// atIndex places an error in the element of a list.
func atIndex(i int, err error) error { return atField(fmt.Sprintf("[%d]", i), err) }

// jsonField is one line of the table of an object's fields.
type jsonField struct {
	name  string
	value any  // a pointer to the field
	omit  bool // it is not written
}

func writeObject(fields []jsonField) ([]byte, error) {
	out := []byte{'{'}
	for _, f := range fields {
		if f.omit {
			continue
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, atField(f.name, err)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(fmt.Appendf(out, "%q:", f.name), value...)
	}
	return append(out, '}'), nil
}

// readObject reads one JSON object into fields; those that it does not have stay as they are.
func readObject(data []byte, fields []jsonField) error {
	return eachValue(data, func(name string, value []byte) error {
		for _, f := range fields {
			if f.name == name {
				if err := readValue(value, f.value); err != nil {
					return atField(name, err)
				}
				return nil
			}
		}
		return fmt.Errorf("unknown field %s", Quote(name))
	})
}

// eachValue calls read for every value of an object. encoding/json by itself would take a name in
// other capitals, and one that is set twice.
func eachValue(data []byte, read func(name string, value []byte) error) error {
	if len(data) > MaxJSONSize {
		return fmt.Errorf("larger than %d bytes", MaxJSONSize)
	}
	if !utf8.Valid(data) {
		return errors.New("not UTF-8 text")
	}
	values := json.NewDecoder(bytes.NewReader(data))
	if open, err := values.Token(); err != nil || open != json.Delim('{') {
		return fmt.Errorf("want an object, got %s", DescribeJSON(data))
	}
	seen := map[string]bool{}
	for values.More() {
		name, err := values.Token() // in an object a name is always text
		if err != nil {
			return err
		}
		key := fmt.Sprint(name)
		if seen[key] {
			return fmt.Errorf("field %s is set again", Quote(key))
		}
		seen[key] = true
		var value json.RawMessage
		if err := values.Decode(&value); err != nil {
			return err
		}
		if err := read(key, value); err != nil {
			return err
		}
	}
	return nil
}

// readValue reads a value, and refuses null, which encoding/json takes for anything.
func readValue(data []byte, to any) error {
	if DescribeJSON(data) == "null" {
		return errors.New("has no value")
	}
	err := json.Unmarshal(data, to)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("want %s, got %s", describeKind(wrong.Type.Kind()), DescribeJSON(data))
	}
	return err
}

// describeKind is how messages call the Go types that values are read into.
func describeKind(kind reflect.Kind) string {
	switch kind {
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list"
	case reflect.Uint8:
		return "a whole number from 0 to 255"
	default:
		return "a whole number"
	}
}

// DescribeJSON names a value for a message, in a few bytes, and without what a text says.
func DescribeJSON(data []byte) string {
	switch data = bytes.TrimSpace(data); {
	case len(data) == 0:
		return "nothing"
	case data[0] == '{':
		return "an object"
	case data[0] == '[':
		return "a list"
	case data[0] == '"':
		return "a text"
	case len(data) > 40:
		return "a long number"
	default:
		return string(data)
	}
}

// jsonList is a list whose errors tell the element.
type jsonList[T any] []T

func (l *jsonList[T]) UnmarshalJSON(data []byte) error {
	var values []json.RawMessage
	if err := readValue(data, &values); err != nil {
		return err
	}
	return readList((*[]T)(l), values)
}

func readList[T any](to *[]T, values []json.RawMessage) error {
	*to = nil
	for i, data := range values {
		var value T
		if err := readValue(data, &value); err != nil {
			return atIndex(i, err)
		}
		*to = append(*to, value)
	}
	return nil
}

// jsonTexts is an object of free names and texts.
type jsonTexts map[string]string

func (t *jsonTexts) UnmarshalJSON(data []byte) error {
	texts := jsonTexts{}
	*t = texts
	return eachValue(data, func(name string, value []byte) error {
		var text string
		if err := readValue(value, &text); err != nil {
			return atField("["+Quote(name)+"]", err)
		}
		texts[name] = text
		return nil
	})
}

// jsonWord is a word that is left out or has letters: an empty one would be taken for the default, which
// nobody asked for who wrote it.
type jsonWord struct{ to *string }

func (w *jsonWord) MarshalJSON() ([]byte, error) { return json.Marshal(w.to) }

func (w *jsonWord) UnmarshalJSON(data []byte) error {
	if err := readValue(data, w.to); err != nil {
		return err
	}
	if *w.to == "" {
		return &TextError{"must not be empty", "write a value or leave the field out"}
	}
	return nil
}

// jsonDuration is a duration as [FormatDuration] writes it.
type jsonDuration time.Duration

func (d jsonDuration) MarshalJSON() ([]byte, error) {
	return json.Marshal(FormatDuration(time.Duration(d)))
}

func (d *jsonDuration) UnmarshalJSON(data []byte) error {
	var text string
	if err := readValue(data, &text); err != nil {
		return err
	}
	parsed, err := ParseDuration(text)
	*d = jsonDuration(parsed)
	return err
}

package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// maxFaults is how many faults of one body are told. A body of faults alone must not be answered with one
// that is many times longer.
const maxFaults = 16

// object reads JSON objects more strictly than encoding/json, which takes a name in other capitals, a field
// that is set twice, and null for anything. It keeps what is wrong with each field, and reads on.
type object struct{ faults []Fault }

func (o *object) fault(field, mend, format string, args ...any) {
	if len(o.faults) < maxFaults {
		o.faults = append(o.faults, Fault{Field: field, Problem: fmt.Sprintf(format, args...), Mend: mend})
	}
}

// How faults spell a field behind the path of its object.
const (
	topField  = "%s"
	subField  = ".%s"
	freeField = "[%q]" // whose name the client chose
)

// each calls read for every field of an object, which is valid JSON and called by path.
func (o *object) each(data []byte, path, form string, read func(name, path string, value []byte)) {
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		o.fault(orBody(path), "", "want an object, got %s", policy.DescribeJSON(data))
		return
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, isText := token.(string)
		var value json.RawMessage
		if err != nil || !isText || d.Decode(&value) != nil {
			o.fault(orBody(path), "send JSON", "can't be read") // valid JSON comes to no such thing
			return
		}
		// JSON escapes what is no character of a text.
		switch field := path + fmt.Sprintf(form, policy.Shorten(name)); {
		case seen[name]:
			o.fault(field, "leave one out", "is set again")
		case string(value) == "null":
			o.fault(field, "leave it out", "has no value")
		default:
			read(name, field, value)
		}
		seen[name] = true
	}
}

// orBody calls what has no path.
func orBody(path string) string {
	if path == "" {
		return "body"
	}
	return path
}

func (o *object) text(field string, value []byte, to *string) {
	if value[0] != '"' {
		o.fault(field, "put it in quotes", "want a text, got %s", policy.DescribeJSON(value))
		return
	}
	_ = json.Unmarshal(value, to) // is valid
}

func (o *object) number(field string, value []byte, to *uint64) bool {
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		o.fault(field, "write digits alone", "want a whole number from 0 to 2^64-1, got %s", policy.DescribeJSON(value))
		return false
	}
	*to = n
	return true
}

// window is a duration as the configuration file writes it, or a number of seconds.
func (o *object) window(field string, value []byte, to *time.Duration) {
	if value[0] != '"' {
		o.seconds(field, value, to)
		return
	}
	var text string
	_ = json.Unmarshal(value, &text) // is valid
	d, err := policy.ParseDuration(text)
	if wrong, ok := err.(*policy.TextError); ok { // as it says that all its errors are
		o.fault(field, wrong.Mend, "%s", wrong.Problem)
		return
	}
	*to = d
}

func (o *object) seconds(field string, value []byte, to *time.Duration) {
	const most = math.MaxInt64 / uint64(time.Second)
	var n uint64
	if !o.number(field, value, &n) {
		return
	}
	if n > most {
		o.fault(field, fmt.Sprintf("write at most %d", most), "%d seconds are too long for a duration", n)
		return
	}
	*to = time.Duration(n) * time.Second
}

// texts is an object of free names and texts.
func (o *object) texts(path string, value []byte) map[string]string {
	all := map[string]string{}
	o.each(value, path, freeField, func(name, field string, value []byte) {
		var text string
		o.text(field, value, &text)
		all[name] = text
	})
	return all
}

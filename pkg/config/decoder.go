package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
)

// maxNodes bounds the values that are read from one file. A file of MaxFileSize
// has fewer in practice; aliases could make more of it.
const maxNodes = 200_000

// decoder turns nodes into values and remembers where each one stood.
type decoder struct {
	file       string
	errs       Errors
	unreported int                 // errors beyond maxErrors
	at         map[string]position // of every field that is in the file, by path
	broken     map[string]bool     // paths whose value could not be read
	nodes      int                 // values read so far
}

func newDecoder(file string) *decoder {
	return &decoder{file: file, at: map[string]position{}, broken: map[string]bool{}}
}

// position is a place in the file, counted from 1.
type position struct{ line, column int }

func nodePosition(n *yaml.Node) position { return position{n.Line, n.Column} }

// cursor is a value in the file: its path, its node with aliases followed, and
// where to send a reader who looks for it.
type cursor struct {
	path string
	node *yaml.Node
	pos  position
}

// into reads the value at a cursor into a variable that it closes over, or
// reports why it cannot.
type into func(d *decoder, c cursor)

// decode reads one value. Empty values are refused here, for all types alike:
// "deny:" with nothing behind it is as likely a slip as an intention.
func (d *decoder) decode(c cursor, to into) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fail(c, fmt.Sprintf("the file has more than %d values", maxNodes), "make it smaller and use fewer aliases")
		}
		return
	}
	d.at[c.path] = c.pos
	if c.node.Kind == yaml.AliasNode {
		c.node = c.node.Alias
	}
	if yamlfile.IsNull(c.node) {
		d.fail(c, "has no value", "give it one or remove the line")
		return
	}
	to(d, c)
}

func (d *decoder) exhausted() bool { return d.nodes > maxNodes }

// fail reports a value that cannot be used.
func (d *decoder) fail(c cursor, problem, mend string) {
	d.broken[c.path] = true
	d.failAt(c.pos, c.path, problem, mend)
}

func (d *decoder) failAt(at position, path, problem, mend string) {
	if len(d.errs) >= maxErrors {
		d.unreported++
		return
	}
	d.errs = append(d.errs, &Error{File: d.file, Line: at.line, Column: at.column, Path: path, Problem: problem, Mend: mend})
}

// has reports whether the file has a field at path, readable or not.
func (d *decoder) has(path string) bool {
	_, ok := d.at[path]
	return ok
}

// position returns the place of the field at path, or of the innermost field
// around it that is in the file.
func (d *decoder) position(path string) position {
	for {
		if at, ok := d.at[path]; ok {
			return at
		}
		if path == "" {
			return position{1, 1}
		}
		path = parent(path)
	}
}

// unreadable reports whether the field at path, or one around it, was reported
// already.
func (d *decoder) unreadable(path string) bool {
	for ; path != ""; path = parent(path) {
		if d.broken[path] {
			return true
		}
	}
	return d.broken[""]
}

// parent cuts the last step off a path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	// maxDepth bounds the nesting of a file. A level of descriptors is two of YAML.
	maxDepth = 100
	// maxNodes bounds the values that are read from one file, of which aliases can make many.
	maxNodes = 500_000
	// maxMessages bounds the errors, and the warnings, that are told of all files.
	maxMessages = 100
)

// reader walks over the nodes of one file.
type reader struct {
	file     string
	errs     Errors
	warnings []string
	nodes    int
}

// at is a node with its aliases followed, and the place in the file where it is used.
type at struct {
	*yaml.Node
	line, column int
	depth        int
}

func (r *reader) fail(a at, problem, mend string) {
	r.errs = append(r.errs, &Error{File: r.file, Line: a.line, Column: a.column, Problem: problem, Mend: mend})
}

func (r *reader) warn(a at, format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s:%d:%d: ", r.file, a.line, a.column)+fmt.Sprintf(format, args...))
}

// over tells that no more is to be read of this file.
func (r *reader) over() bool { return len(r.errs) >= maxMessages || r.nodes > maxNodes }

// step goes from a node to one that is in it, of which anchor says where to send the reader.
func (r *reader) step(from at, to, anchor *yaml.Node) at {
	a := at{to, anchor.Line, anchor.Column, from.depth + 1}
	if r.nodes++; r.nodes == maxNodes+1 {
		r.fail(a, fmt.Sprintf("the file has more than %d values", maxNodes), "make it smaller and use fewer aliases")
	}
	if to.Kind == yaml.AliasNode {
		a.Node = to.Alias
	}
	if a.depth > maxDepth && !r.over() { // an anchor inside of itself is endless
		r.fail(a, fmt.Sprintf("nested more than %d deep", maxDepth), "flatten it")
		r.nodes = maxNodes + 1
	}
	return a
}

// document returns what is in a file, or reports why there is nothing.
func (r *reader) document(data []byte) (at, bool) {
	start := at{line: 1, column: 1}
	if len(data) > MaxFileSize {
		r.fail(start, fmt.Sprintf("the file is larger than %d bytes", MaxFileSize), "split it by domain")
		return start, false
	}
	docs, err := yamlfile.Documents(data, maxDepth)
	if err != nil {
		r.syntaxError(err)
		return start, false
	}
	if yamlfile.IsEmpty(docs) {
		r.fail(start, "the file is empty", `write at least "domain: NAME"`)
		return start, false
	}
	if len(docs) > 1 {
		second := at{line: docs[1].Line, column: docs[1].Column}
		r.fail(second, "a second document begins here, which envoyproxy/ratelimit would ignore",
			`put each domain into a file of its own, and remove the "---"`)
	}
	root := docs[0].Content[0]
	return r.step(start, root, root), true
}

func (r *reader) syntaxError(err error) {
	place, problem := at{line: 1, column: 1}, err.Error()
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		problem = strings.TrimSpace(e.Message + " " + e.ContextMsg)
		if e.Mark.Line > 0 {
			place.line, place.column = e.Mark.Line, e.Mark.Column
		}
	}
	r.fail(place, "not valid YAML: "+problem, "mend the syntax at or before this place")
}

// fields are the names that a mapping has, and what reads each.
type fields map[string]func(value at)

// elsewhere are the names that envoyproxy/ratelimit lets stand anywhere, and ignores where they don't belong.
var elsewhere = []string{
	"domain", "key", "value", "descriptors", "rate_limit", "unit", "requests_per_unit", "unlimited", "shadow_mode",
	"quota_mode", "name", "replaces", "detailed_metric", "value_to_metric", "share_threshold",
}

// mapping reads the fields of a mapping, and returns which of them are there.
func (r *reader) mapping(m at, what string, known fields) map[string]bool {
	seen := map[string]bool{}
	if m.Kind != yaml.MappingNode {
		r.fail(m, fmt.Sprintf("%s must be a mapping, got %s", what, yamlfile.Describe(m.Node)), `write "field: value" lines below it`)
		return seen
	}
	r.pairs(m, what, known, seen)
	return seen
}

// pairs reads the fields of a mapping that were not seen yet: what it says itself goes before what it merges.
func (r *reader) pairs(m at, what string, known fields, seen map[string]bool) {
	var merged []at
	here := map[string]bool{}
	for i := 0; i+1 < len(m.Content) && !r.over(); i += 2 {
		key := r.step(m, m.Content[i], m.Content[i])
		value := r.step(m, m.Content[i+1], yamlfile.Anchor(m.Content[i], m.Content[i+1]))
		name := key.Value
		switch {
		case key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			r.fail(key, fmt.Sprintf("a field name of %s must be text, got %s", what, yamlfile.Describe(key.Node)), "write the name out")
		case here[name]:
			r.fail(key, fmt.Sprintf("field %s of %s is set twice", policy.Quote(name), what), "remove one of the two")
		case seen[name]:
		case known[name] != nil:
			seen[name] = true
			known[name](value)
		case slices.Contains(elsewhere, name):
			r.warn(key, "%s has no effect in %s; move it to where it belongs or remove it", name, what)
		default:
			r.unknown(key, what, known)
		}
		here[name] = true
	}
	for _, value := range merged {
		r.merge(value, what, known, seen)
	}
}

func (r *reader) merge(value at, what string, known fields, seen map[string]bool) {
	switch value.Kind {
	case yaml.MappingNode:
		r.pairs(value, what, known, seen)
	case yaml.SequenceNode:
		for _, n := range value.Content {
			if r.over() {
				return
			}
			r.merge(r.step(value, n, n), what, known, seen)
		}
	default:
		r.fail(value, "only mappings can be merged, got "+yamlfile.Describe(value.Node), `write "<<: *anchor"`)
	}
}

func (r *reader) unknown(key at, what string, known fields) {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	mend, names := "", make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
		if plain(name) == plain(key.Value) {
			mend = fmt.Sprintf("did you mean %q?", name)
		}
	}
	if mend == "" {
		slices.Sort(names)
		mend = "use one of " + strings.Join(names, ", ")
	}
	r.fail(key, fmt.Sprintf("unknown field %s in %s", policy.Quote(key.Value), what), mend)
}

// list reads the mappings of a list.
func (r *reader) list(l at, what string, each func(element at)) {
	if yamlfile.IsNull(l.Node) {
		return
	}
	if l.Kind != yaml.SequenceNode {
		r.fail(l, fmt.Sprintf("%s must be a list, got %s", what, yamlfile.Describe(l.Node)), `write each element behind a "-"`)
		return
	}
	for _, n := range l.Content {
		if r.over() {
			return
		}
		element := r.step(l, n, n)
		if element.Kind != yaml.MappingNode {
			r.fail(element, fmt.Sprintf("an element of %s must be a mapping, got %s", what, yamlfile.Describe(element.Node)), `write "field: value" behind the "-"`)
			continue
		}
		each(element)
	}
}

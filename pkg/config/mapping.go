package config

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
	"github.com/weir-limiter/weir/pkg/policy"
)

// field is one line of the schema of a mapping.
type field struct {
	name string
	to   into
	// example, if it is set, makes the field required and shows how to write it.
	example string
}

// mapping reads a mapping with a fixed set of fields.
func mapping(fields ...field) into {
	return func(d *decoder, c cursor) {
		if c.node.Kind != yaml.MappingNode {
			d.fail(c, "want a mapping, got "+yamlfile.Describe(c.node), `write "field: value" lines below it`)
			return
		}
		seen := d.entries(c, func(key *yaml.Node, value cursor) {
			for _, f := range fields {
				if f.name == key.Value {
					value.path = join(c.path, f.name)
					d.decode(value, f.to)
					return
				}
			}
			d.unknown(c, key, fields)
		})
		for _, f := range fields {
			if f.example != "" && !seen[f.name] && !d.exhausted() {
				missing := cursor{path: join(c.path, f.name), pos: c.pos}
				d.fail(missing, "is missing", fmt.Sprintf("add it, for example %q", f.example))
			}
		}
	}
}

// texts reads a mapping of free keys to texts.
func texts(to *map[string]string) into {
	return func(d *decoder, c cursor) {
		if c.node.Kind != yaml.MappingNode {
			d.fail(c, "want a mapping, got "+yamlfile.Describe(c.node), `write it as {name: value}`)
			return
		}
		values := map[string]string{}
		d.entries(c, func(key *yaml.Node, value cursor) {
			var v string
			value.path = fmt.Sprintf("%s[%q]", c.path, key.Value)
			d.decode(value, text(&v))
			values[key.Value] = v
		})
		if len(values) > 0 {
			*to = values
		}
	}
}

// entries calls each for the keys of a mapping and returns them. Keys that are
// no text, or occur twice, are reported and left out.
func (d *decoder) entries(c cursor, each func(key *yaml.Node, value cursor)) map[string]bool {
	seen := map[string]bool{}
	first := map[string]position{}
	for i := 0; i+1 < len(c.node.Content) && !d.exhausted(); i += 2 {
		key, value := c.node.Content[i], c.node.Content[i+1]
		at := nodePosition(key)
		if key.Kind != yaml.ScalarNode {
			d.failAt(at, c.path, "a field name must be text, got "+yamlfile.Describe(key), "write the name out")
			continue
		}
		if seen[key.Value] {
			d.failAt(at, c.path, fmt.Sprintf("field %s is set again, first on line %d", policy.Quote(key.Value), first[key.Value].line),
				"remove one of the two")
			continue
		}
		seen[key.Value], first[key.Value] = true, at
		each(key, cursor{node: value, pos: nodePosition(yamlfile.Anchor(key, value))})
	}
	return seen
}

func (d *decoder) unknown(c cursor, key *yaml.Node, fields []field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	problem := "unknown field " + policy.Quote(key.Value)
	if c.path != "" {
		problem += " in " + c.path
	}
	mend := "remove it"
	switch near, ok := nearest(key.Value, names); {
	case key.Value == "<<":
		mend = "write the merged fields out"
	case ok:
		mend = fmt.Sprintf("did you mean %q?", near)
	}
	// The problem names the mapping already, so the message has no path before it.
	d.failAt(nodePosition(key), "", problem, mend)
}

// list reads a list whose elements are read by each.
func list[T any](to *[]T, each func(*T) into) into {
	return func(d *decoder, c cursor) {
		if c.node.Kind != yaml.SequenceNode {
			d.fail(c, "want a list, got "+yamlfile.Describe(c.node), `write it in brackets, or each element behind a "-"`)
			return
		}
		if len(c.node.Content) == 0 {
			return
		}
		values := make([]T, len(c.node.Content))
		for i, n := range c.node.Content {
			if d.exhausted() {
				return
			}
			d.decode(cursor{path: fmt.Sprintf("%s[%d]", c.path, i), node: n, pos: nodePosition(n)}, each(&values[i]))
		}
		*to = values
	}
}

// pointer reads into a new value, so that an absent field stays nil.
func pointer[T any](to **T, read func(*T) into) into {
	return func(d *decoder, c cursor) {
		*to = new(T)
		read(*to)(d, c)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

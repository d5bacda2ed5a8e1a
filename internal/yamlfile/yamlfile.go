// Package yamlfile reads YAML files that people write: it parses them within bounds, keeps the place of
// what is wrong, and names what stands there.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Documents returns the first two documents in data, the second only to show that it is there. What is nested
// deeper than maxDepth is an error.
func Documents(data []byte, maxDepth int) (docs []*yaml.Node, err error) {
	// The library reports some of its own defects by panicking. A file must not be able to stop a daemon
	// that reads it again while it runs.
	defer func() {
		if p := recover(); p != nil {
			docs, err = nil, fmt.Errorf("the YAML library failed: %v", p)
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, err
	}
	for len(docs) < 2 {
		var doc yaml.Node
		if err := loader.Load(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		docs = append(docs, &doc)
	}
	return docs, nil
}

// IsEmpty reports whether there is nothing in the first document.
func IsEmpty(docs []*yaml.Node) bool {
	return len(docs) == 0 || len(docs[0].Content) == 0 || IsNull(docs[0].Content[0])
}

// IsNull reports whether a node has no value.
func IsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// Quoted reports whether a value stands in quotes.
func Quoted(n *yaml.Node) bool {
	return n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
}

// Anchor is the node by which a value is found: a list or mapping by its key, as in block style its own first
// character is that of its first element, lines below.
func Anchor(key, value *yaml.Node) *yaml.Node {
	if value.Kind == yaml.ScalarNode || value.Kind == yaml.AliasNode {
		return value
	}
	return key
}

// Describe names what stands in the file where something else was wanted.
func Describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch {
		case IsNull(n):
			return "nothing"
		case slices.Contains([]string{"!!int", "!!float", "!!bool"}, n.ShortTag()):
			return policy.Shorten(n.Value)
		}
		return policy.Quote(n.Value)
	default:
		return "something else"
	}
}

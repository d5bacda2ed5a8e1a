package ratesync

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What nodes tell of themselves is for people who look. It is bounded, as anybody may write it.
const (
	maxNodes   = 4096
	maxTold    = 1024             // bytes
	maxReason  = 256              // bytes
	nodeMemory = 10 * time.Minute // for which a node that is silent is listed
)

// NodePolicies is which set a node has in force.
type NodePolicies struct {
	Node string
	// Version is that of the last set that it took up, which may be a cleared one; 0: none.
	Version uint64
	// Refused is the version that the node can't take, and Reason why; 0: none.
	Refused uint64
	Reason  string
	// Ago is how long ago it told.
	Ago time.Duration
}

// toldVersion is what a node tells.
type toldVersion struct {
	Version uint64 `json:"version"`
	Refused uint64 `json:"refused,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Nodes lists what nodes told lately, by their names. What is no node's is left out.
func (s *PolicyStore) Nodes(ctx context.Context) ([]NodePolicies, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := s.list.Run(ctx, s.o.Client, []string{s.versions}, maxNodes, maxTold).Slice()
	if err != nil {
		return nil, storeFault("read which node has which version", err)
	}
	now, _ := at[int64](answer, 0)
	var all []NodePolicies
	for i := 1; i+1 < len(answer); i += 2 {
		node, _ := at[string](answer, i)
		told, _ := at[string](answer, i+1)
		if n, ok := readTold(node, told, now); ok {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b NodePolicies) int { return strings.Compare(a.Node, b.Node) })
	return all, nil
}

// readTold reads what a node told, if it is that, and not too long ago.
func readTold(node, told string, now int64) (NodePolicies, bool) {
	when, text, _ := strings.Cut(told, " ")
	ms, err := strconv.ParseInt(when, 10, 64)
	var v toldVersion
	if err != nil || node == "" || printable(node) != node || json.Unmarshal([]byte(text), &v) != nil {
		return NodePolicies{}, false
	}
	ago := time.Duration(max(0, now-ms)) * time.Millisecond
	if ms < now-nodeMemory.Milliseconds() || ms > now+nodeMemory.Milliseconds() {
		return NodePolicies{}, false
	}
	return NodePolicies{Node: node, Version: v.Version, Refused: v.Refused, Reason: line(v.Reason), Ago: ago}, true
}

// line is a text of several lines as a short one.
func line(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}

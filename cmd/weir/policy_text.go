package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weir-limiter/weir/pkg/policy"
)

// matchField is one of the dimensions that narrow a policy, as people read it.
type matchField struct {
	name   string
	values []string
}

// matchFields lists those that narrow the policy.
func matchFields(m policy.Match) []matchField {
	all := []matchField{
		{"sources", texts(m.Sources)}, {"protocol", nonEmpty(m.Protocol)}, {"ports", texts(m.Ports)},
		{"interfaces", m.Interfaces}, {"direction", nonEmpty(string(m.Direction))},
		{"methods", m.Methods}, {"endpoints", m.Endpoints}, {"users", m.Users}, {"roles", m.Roles},
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		all = append(all, matchField{"metadata", []string{key + ": " + m.Metadata[key]}})
	}
	return slices.DeleteFunc(all, func(f matchField) bool { return len(f.values) == 0 })
}

// matchText says in one line what a policy is for; a long list is cut short.
func matchText(m policy.Match) string {
	const most = 3
	var parts []string
	for _, f := range matchFields(m) {
		values := f.values
		if rest := len(values) - most; rest > 0 {
			values = append(slices.Clone(values[:most]), fmt.Sprintf("%d more", rest))
		}
		parts = append(parts, f.name+" "+strings.Join(values, ","))
	}
	return strings.Join(parts, "; ")
}

// notesText says in one line what about a policy is not as it is by default.
func notesText(p policy.Policy) string {
	var notes []string
	for _, n := range notesOf(p) {
		notes = append(notes, n.name+" "+n.short)
	}
	return strings.Join(notes, "; ")
}

// note is what is not as it is by default.
type note struct{ name, short, explanation string }

func notesOf(p policy.Policy) (notes []note) {
	if p.Algorithm != policy.AlgorithmTokenBucket {
		notes = append(notes, note{"algorithm", string(p.Algorithm), ""})
	}
	if p.Key != "" {
		notes = append(notes, note{"key", p.Key, ""})
	}
	if shared(p) {
		notes = append(notes, note{"consistency", string(p.Consistency), consistencyText[p.Consistency]})
	}
	if p.OnStoreFailure != "" && p.OnStoreFailure != policy.StoreFailureLocal {
		notes = append(notes, note{"on store failure", string(p.OnStoreFailure), storeFailureText[p.OnStoreFailure]})
	}
	if p.OnFragment == policy.FragmentDrop {
		notes = append(notes, note{"on fragment", string(p.OnFragment), ": what has no port to read"})
	}
	if p.Action == policy.ActionPace {
		notes = append(notes, note{"action", string(p.Action), ": what is over the limit is held back"})
	}
	if n := p.NewSources; n != nil {
		notes = append(notes, note{"new sources", fmt.Sprintf("%s in %s", thousands(n.Limit), policy.FormatDuration(n.Window)), ""})
	}
	if len(p.Replaces) > 0 {
		notes = append(notes, note{"replaces", strings.Join(p.Replaces, ", "), ""})
	}
	if len(p.Headers) > 0 {
		var headers []string
		for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
			headers = append(headers, name+": "+p.Headers[name])
		}
		notes = append(notes, note{"headers", strings.Join(headers, ", "), ""})
	}
	return notes
}

// shared tells whether nodes share the count of a policy.
func shared(p policy.Policy) bool {
	return p.Consistency != "" && p.Consistency != policy.ConsistencyLocal
}

// consistencyText and storeFailureText say in a few words what the file has a word for.
var (
	consistencyText = map[policy.Consistency]string{
		policy.ConsistencyStrict:     ": each decision asks Redis",
		policy.ConsistencyLeased:     ": tokens are fetched from Redis before they are used",
		policy.ConsistencyReconciled: ": Redis and the other nodes hear of it afterwards",
	}
	storeFailureText = map[policy.StoreFailure]string{
		policy.StoreFailureShare:  ": this node's share of the limit while Redis is away",
		policy.StoreFailureOpen:   ": everything passes while Redis is away",
		policy.StoreFailureClosed: ": nothing passes while Redis is away",
	}
)

// limitText is the limit of a policy for who wants to know why it denies.
func limitText(p policy.Policy, burst string) string {
	text := fmt.Sprintf("%s, burst %s", p.Rate(), burst)
	if shared(p) {
		text += ", " + string(p.Consistency)
	}
	return text
}

// writeFurther adds what is not as it is by default, or narrows the policy.
func writeFurther(g *grid, p policy.Policy) {
	for _, n := range notesOf(p) {
		g.field(n.name, "%s%s", n.short, n.explanation)
	}
	for _, f := range matchFields(p.Match) {
		g.field("only "+f.name, "%s", strings.Join(f.values, ", "))
	}
}

func texts[T fmt.Stringer](values []T) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = v.String()
	}
	return all
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

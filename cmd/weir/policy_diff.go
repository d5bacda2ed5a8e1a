package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

// compare tells what becomes of each policy and list entry: first those that were, in their order, then
// the new ones.
func compare(before, after policy.Document) (server.Applied, error) {
	a := server.Applied{
		Policies: []server.PolicyChange{},
		Allow:    compareList(before.Allow, after.Allow), Deny: compareList(before.Deny, after.Deny),
	}
	was, is := byName(before), byName(after)
	for i := range before.Policies {
		c := server.PolicyChange{Policy: before.Policies[i].Name, Outcome: server.OutcomeRemoved}
		if to := is[c.Policy]; to != nil {
			var err error
			if c.Fields, err = compareFields(&before.Policies[i], to); err != nil {
				return a, err
			}
			c.Outcome = server.OutcomeUnchanged
			if c.Fields != nil {
				c.Outcome = server.OutcomeChanged
			}
		}
		a.Policies = append(a.Policies, c)
	}
	for i := range after.Policies {
		if name := after.Policies[i].Name; was[name] == nil {
			a.Policies = append(a.Policies, server.PolicyChange{Policy: name, Outcome: server.OutcomeAdded})
		}
	}
	return a, nil
}

// byName finds the policies of a document, of which there may be ten thousand.
func byName(d policy.Document) map[string]*policy.Policy {
	all := make(map[string]*policy.Policy, len(d.Policies))
	for i := range d.Policies {
		all[d.Policies[i].Name] = &d.Policies[i]
	}
	return all
}

func compareList(before, after []netip.Prefix) server.ListChange {
	c := server.ListChange{Added: []netip.Prefix{}, Removed: []netip.Prefix{}}
	was := make(map[netip.Prefix]bool, len(before))
	for _, p := range before {
		was[p] = true
	}
	is := make(map[netip.Prefix]bool, len(after))
	for _, p := range after {
		is[p] = true
		if !was[p] {
			c.Added = append(c.Added, p)
		}
	}
	for _, p := range before {
		if !is[p] {
			c.Removed = append(c.Removed, p)
		}
	}
	c.Kept = len(before) - len(c.Removed)
	return c
}

// compareFields lists the fields in which two policies differ, as JSON has them.
func compareFields(before, after *policy.Policy) ([]server.FieldChange, error) {
	if reflect.DeepEqual(before, after) { // as most are
		return nil, nil
	}
	from, err := flatten(before)
	if err != nil {
		return nil, err
	}
	to, err := flatten(after)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range from {
		names = append(names, name)
	}
	for name := range to {
		if _, ok := from[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var changes []server.FieldChange
	for _, name := range names {
		if !reflect.DeepEqual(from[name], to[name]) {
			changes = append(changes, server.FieldChange{Field: name, From: from[name], To: to[name]})
		}
	}
	return changes, nil
}

// flatten is a policy's JSON as one object, with the fields of its objects as "match.ports".
func flatten(p *policy.Policy) (map[string]any, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("compare policy %s: %w", p.Name, err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("compare policy %s: %w", p.Name, err)
	}
	flat := map[string]any{}
	flattenInto(flat, "", object)
	return flat, nil
}

func flattenInto(flat map[string]any, prefix string, object map[string]any) {
	for name, value := range object {
		if inner, ok := value.(map[string]any); ok {
			flattenInto(flat, prefix+name+".", inner)
			continue
		}
		flat[prefix+name] = value
	}
}

package config

import (
	"fmt"
	"slices"

	"github.com/weir-limiter/weir/pkg/policy"
)

// policyInto reads one policy and fills in its defaults.
func policyInto(to *policy.Policy) into {
	return func(d *decoder, c cursor) {
		var p policy.Policy
		mapping(policyFields(&p)...)(d, c)
		*to = p.WithDefaults()
		// WithDefaults cannot tell a zero that is written in the file from a
		// field that is not there. Written zeroes stay, to be judged.
		if d.has(c.path + ".burst") {
			to.Burst = p.Burst
		}
		if d.has(c.path + ".priority") {
			to.Priority = p.Priority
		}
		if d.has(c.path + ".ipv4_prefix") {
			to.IPv4Prefix = p.IPv4Prefix
		}
		if d.has(c.path + ".ipv6_prefix") {
			to.IPv6Prefix = p.IPv6Prefix
		}
	}
}

func policyFields(p *policy.Policy) []field {
	return []field{
		{name: "name", to: text(&p.Name), example: "name: per-client"},
		{name: "scope", to: enum(&p.Scope, policy.Scopes()), example: "scope: per_ip"},
		{name: "limit", to: whole(&p.Limit, policy.MaxTokens), example: "limit: 1000"},
		{name: "window", to: span(&p.Window), example: "window: 1s"},
		{name: "burst", to: whole(&p.Burst, policy.MaxTokens)},
		{name: "unit", to: enum(&p.Unit, policy.Units())},
		{name: "algorithm", to: enum(&p.Algorithm, policy.Algorithms())},
		{name: "priority", to: signed(&p.Priority)},
		{name: "layer", to: enum(&p.Layer, policy.Layers())},
		{name: "mode", to: enum(&p.Mode, policy.Modes())},
		{name: "consistency", to: enum(&p.Consistency, policy.Consistencies())},
		{name: "on_store_failure", to: enum(&p.OnStoreFailure, policy.StoreFailures())},
		{name: "on_pressure", to: enum(&p.OnPressure, policy.Pressures())},
		{name: "on_fragment", to: enum(&p.OnFragment, policy.Fragments())},
		{name: "action", to: enum(&p.Action, policy.Actions())},
		{name: "new_sources", to: pointer(&p.NewSources, newSources)},
		{name: "ipv4_prefix", to: whole(&p.IPv4Prefix, 32)},
		{name: "ipv6_prefix", to: whole(&p.IPv6Prefix, 128)},
		{name: "key", to: text(&p.Key)},
		{name: "replaces", to: list(&p.Replaces, text)},
		{name: "headers", to: texts(&p.Headers)},
		{name: "match", to: match(&p.Match)},
	}
}

func newSources(n *policy.NewSources) into {
	return mapping(
		field{name: "limit", to: whole(&n.Limit, policy.MaxTokens), example: "limit: 10000"},
		field{name: "window", to: span(&n.Window), example: "window: 1s"},
	)
}

func match(m *policy.Match) into { return mapping(matchFields(m)...) }

func matchFields(m *policy.Match) []field {
	return []field{
		{name: "sources", to: list(&m.Sources, prefix)},
		{name: "protocol", to: protocol(&m.Protocol)},
		{name: "ports", to: list(&m.Ports, ports)},
		{name: "interfaces", to: list(&m.Interfaces, text)},
		{name: "direction", to: enum(&m.Direction, policy.Directions())},
		{name: "methods", to: list(&m.Methods, text)},
		{name: "endpoints", to: list(&m.Endpoints, text)},
		{name: "users", to: list(&m.Users, text)},
		{name: "roles", to: list(&m.Roles, text)},
		{name: "metadata", to: texts(&m.Metadata)},
	}
}

// checkDocument places what is wrong with policies and lists in the file.
func (d *decoder) checkDocument(faults []policy.Fault) {
	if d.exhausted() {
		return // the last ones are incomplete
	}
	for _, f := range faults {
		// What rests on a value that could not be read is a consequence, not
		// a fault.
		if d.unreadable(f.Path) || slices.ContainsFunc(f.Needs, d.unreadable) {
			continue
		}
		problem := f.Problem
		if f.Earlier != "" {
			problem += fmt.Sprintf(" on line %d", d.position(f.Earlier).line)
		}
		d.failAt(d.position(f.Path), f.Path, problem, f.Mend)
	}
}

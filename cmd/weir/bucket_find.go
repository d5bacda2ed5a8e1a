package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// placeChoice is which of several places with a policy of one name is meant; what is empty is any.
type placeChoice struct {
	iface     string
	direction policy.Direction
}

func (c placeChoice) check() error {
	if c.direction != policy.DirectionBoth && !slices.Contains(policy.Directions(), c.direction) {
		return usagef("--direction %s: want %s", c.direction, oneOf(policy.Directions()))
	}
	return nil
}

func (c placeChoice) includes(a *loader.Attachment) bool {
	return (c.iface == "" || c.iface == a.Interface || c.iface == place(a)) &&
		(c.direction == policy.DirectionBoth || c.direction == directionOf(a))
}

func directionOf(a *loader.Attachment) policy.Direction { return config.Hook(a.Hook).Direction() }

// bucketShape is what has to be equal for two places to mean the same by a policy's bucket.
type bucketShape struct {
	scope                  policy.Scope
	limit, burst           uint64
	window                 time.Duration
	unit                   policy.Unit
	ipv4Prefix, ipv6Prefix uint8
}

func shapeOf(p *loader.LoadedPolicy) bucketShape {
	return bucketShape{p.Scope, p.Limit, p.Burst, p.Window, p.Unit, p.IPv4Prefix, p.IPv6Prefix}
}

// findPolicy finds a loaded policy by its name, and the interfaces that have it. Where they disagree on
// what it is, or have buckets of their own, the user has to say which is meant.
func findPolicy(all []loader.Attachment, name string, at placeChoice) (found *loader.LoadedPolicy, places []string, err error) {
	var elsewhere []string
	var first *loader.Attachment
	for i := range all {
		a := &all[i]
		j := slices.IndexFunc(a.Policies, func(p loader.LoadedPolicy) bool { return p.Name == name })
		if j < 0 {
			continue
		}
		p := &a.Policies[j]
		switch {
		case !at.includes(a):
			elsewhere = appendNew(elsewhere, fmt.Sprintf("%s for %s", place(a), directionOf(a)))
			continue
		case found == nil:
			found, first = p, a
		case directionOf(first) != directionOf(a):
			return nil, nil, fmt.Errorf("policy %s has other buckets for %s, on %s, than for %s, on %s (choose with --direction)",
				name, directionOf(first), place(first), directionOf(a), place(a))
		case shapeOf(found) != shapeOf(p):
			return nil, nil, fmt.Errorf("policy %s is %s on %s, and %s on %s (choose one with --interface)",
				name, shapeText(found), place(first), shapeText(p), place(a))
		}
		places = appendNew(places, place(a))
	}
	switch {
	case found != nil:
		return found, places, nil
	case elsewhere != nil:
		return nil, nil, fmt.Errorf("policy %q is not loaded there (it is on: %s)", name, strings.Join(elsewhere, ", "))
	}
	return nil, nil, unknownPolicy(name, loadedNames(all), "loaded")
}

func shapeText(p *loader.LoadedPolicy) string {
	return fmt.Sprintf("%s with a burst of %d", p.Rate(), p.Burst)
}

func appendNew(all []string, s string) []string {
	if slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

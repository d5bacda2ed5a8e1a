// Package rules reads the configuration of envoyproxy/ratelimit, and finds the limit of a descriptor in it.
//
// What that server accepts is accepted here and means the same; where it ignores something in silence, there
// is a warning. docs/RLS.md has the format, and every difference.
package rules

import (
	"errors"
)

// Set is what was read: the limits of any number of domains. It never changes.
type Set struct {
	// Limits are all limits, each at its own index, [Limit.ID].
	Limits []*Limit
	// Warnings are what was read but has no effect, each a line with its place.
	Warnings []string
}

// Limit is one rate_limit.
type Limit struct {
	ID int
}

// Load reads files, and the .yaml and .yml files of directories. Faults of what they hold are [Errors]; a
// file that can't be read is an error that wraps the one of the operating system.
func Load(paths ...string) (*Set, error) { return nil, errors.New("not built yet") }

package config

import (
	"fmt"
	"slices"

	"github.com/weir-limiter/weir/internal/yamlfile"
)

// Error is one fault of a configuration file.
type Error = yamlfile.Error

// Errors are all the faults of a file, in the order of their places. Use
// [errors.As] with an *[Error] for the first one.
type Errors = yamlfile.Errors

// maxErrors bounds how many faults are reported, so that a file of garbage does
// not become a report many times its size.
const maxErrors = 100

// err returns what was reported so far, or nil.
func (d *decoder) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	errs := slices.Clone(d.errs)
	errs.Sort()
	if d.unreported > 0 {
		last := errs[len(errs)-1]
		errs = append(errs, &Error{
			File: d.file, Line: last.Line, Column: last.Column,
			Problem: fmt.Sprintf("%d more errors are not shown", d.unreported),
			Mend:    "mend the ones above first",
		})
	}
	return errs
}

package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one fault of a configuration file.
type Error struct {
	// File is the name of the file.
	File string
	// Line and Column count from 1. A field that is missing is placed where
	// the mapping begins that should have it.
	Line, Column int
	// Path names the field, such as "policies[0].burst". It is empty if the
	// fault is of the whole file, or an unknown field, which Problem names.
	Path string
	// Problem says what is wrong.
	Problem string
	// Mend says what to do about it.
	Mend string
}

// Error returns "FILE:LINE:COLUMN: PATH: PROBLEM; MEND".
func (e *Error) Error() string {
	path := e.Path
	if path != "" {
		path += ": "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s; %s", e.File, e.Line, e.Column, path, e.Problem, e.Mend)
}

// Errors are all the faults of a file, in the order of their places. Use
// [errors.As] with an *[Error] for the first one.
type Errors []*Error

// Error returns one fault per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults, each an *[Error].
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

// maxErrors bounds how many faults are reported, so that a file of garbage does
// not become a report many times its size.
const maxErrors = 100

// err returns what was reported so far, or nil.
func (d *decoder) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	errs := slices.Clone(d.errs)
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if d.unreported > 0 {
		last := errs[len(errs)-1]
		errs = append(errs, &Error{
			File: d.file, Line: last.Line, Column: last.Column,
			Problem: fmt.Sprintf("%d more errors are not shown", d.unreported),
			Mend:    "mend the ones above first",
		})
	}
	return Errors(errs)
}

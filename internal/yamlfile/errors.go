package yamlfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one fault of a file.
type Error struct {
	// File is the name of the file.
	File string
	// Line and Column count from 1. A field that is missing is placed where
	// the mapping begins that should have it.
	Line, Column int
	// Path names the field, such as "policies[0].burst". It is empty if the
	// fault is of the whole file, or Problem says what it is of.
	Path string
	// Problem says what is wrong.
	Problem string
	// Mend says what to do about it.
	Mend string
}

// Error returns "FILE:LINE:COLUMN: PATH: PROBLEM; MEND", or less the path if there is none.
func (e *Error) Error() string {
	path := e.Path
	if path != "" {
		path += ": "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s; %s", e.File, e.Line, e.Column, path, e.Problem, e.Mend)
}

// Errors are the faults of one or more files, those of each in the order of
// their places. Use [errors.As] with an *[Error] for the first one.
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

// Sort puts the faults of one file in the order of their places.
func (e Errors) Sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

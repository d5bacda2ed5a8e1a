package rules

import (
	"fmt"
	"strings"
)

// Error is one fault of a file.
type Error struct {
	// File is the name of the file.
	File string
	// Line and Column count from 1. A field that is missing is placed where the mapping begins that should have it.
	Line, Column int
	// Problem says what is wrong, and Mend what to do about it.
	Problem, Mend string
}

// Error returns "FILE:LINE:COLUMN: PROBLEM; MEND".
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", e.File, e.Line, e.Column, e.Problem, e.Mend)
}

// Errors are the faults of one or more files. Use [errors.As] with an *[Error] for the first one.
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

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/weir-limiter/weir/pkg/limiter"
)

// Problem is an error as this API answers it: RFC 9457, application/problem+json. Clients read it: add
// fields, rename none.
type Problem struct {
	// Title is the text of the status; Type is left out, which means that.
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what is wrong, and the mend.
	Detail string `json:"detail"`
	// Errors says what is wrong with each field of the request, if it is that.
	Errors []Fault `json:"errors,omitempty"`
}

// Fault is what is wrong with one field.
type Fault struct {
	// Field is its path, such as "policies[2].burst".
	Field   string `json:"field"`
	Problem string `json:"problem"`
	Mend    string `json:"mend,omitempty"`
}

// String is the fault in one line.
func (f Fault) String() string {
	text := f.Field + ": " + f.Problem
	if f.Mend != "" {
		text += "; " + f.Mend
	}
	return text
}

// NewProblem makes a problem of an HTTP status.
func NewProblem(status int, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// senseless is the problem of a request that can't be decided as it is.
func senseless(faults ...Fault) *Problem {
	p := NewProblem(http.StatusBadRequest, "the request does not make sense, and nothing was charged")
	p.Errors = faults
	return p
}

// Error is the detail, and a line for each fault.
func (p *Problem) Error() string {
	lines := []string{p.Detail}
	for _, f := range p.Errors {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

// problemOf is err as a problem; one that says nothing else is the server's own fault.
func problemOf(err error) *Problem {
	var p *Problem
	var query *limiter.QueryError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &query):
		return senseless(Fault{Field: query.Field, Problem: query.Problem, Mend: query.Mend})
	case errors.As(err, &tooLarge):
		return NewProblem(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	return NewProblem(http.StatusInternalServerError, "%v", err)
}

func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	setHeaders(w, "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that went away needs no answer
}

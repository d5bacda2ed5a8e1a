package middleware

import (
	"strings"
	"testing"
)

func TestPrefersProblem(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                                   false,
		"*/*":                                                false,
		"application/*":                                      false,
		"text/html":                                          false,
		"application/json":                                   false,
		"application/problem+json":                           true,
		"APPLICATION/Problem+JSON":                           true,
		"application/problem+json, */*":                      true, // named, though liked no better
		"*/*, application/problem+json":                      true,
		"application/*, application/json":                    false,
		"text/html, application/*;q=0.9":                     false,
		"application/problem+json;q=0, */*":                  false,
		"application/problem+json;q=0":                       false,
		"application/json, application/problem+json":         false,
		"application/problem+json, application/json":         true,
		"application/json;q=0.5, application/problem+json":   true,
		"application/json, application/problem+json;q=0.999": false,
		"application/json;q=0.1, application/problem+json;q=0.101":        true,
		"application/json;q=0, */*":                                       true,
		"application/problem+json; q=0.5 , application/json ; Q=0.25":     true,
		`application/problem+json;profile="a,b;q=0";q=0.9, */*;q=0.1`:     true,
		"application/problem+json;q=2, */*;q=0.1":                         false, // no weight: not understood, not counted
		"application/problem+json;q=x":                                    false,
		"application/problem+json;q=1.001":                                false,
		"application/problem+json;q=0.0001":                               false,
		"application/problem+json;q=1.000":                                true,
		"application/problem+json;q=1;ext=q":                              true,
		"application/problem+json;q=.5":                                   false,
		",,application/problem+json,":                                     true,
		strings.Repeat("text/a,", maxRanges) + "application/problem+json": false,
		"application/problem+json;a=\"\\":                                 true,
	} {
		if got := prefersProblem([]string{accept}); got != want {
			t.Errorf("%s: %t", accept, got)
		}
	}
	if prefersProblem(nil) || !prefersProblem([]string{"text/html", "application/problem+json"}) {
		t.Error("header lines are not taken together")
	}
}

func FuzzPrefersProblem(f *testing.F) {
	f.Add(`application/problem+json;profile="a,b;q=0";q=0.9, */*;q=0.1`)
	f.Fuzz(func(t *testing.T, accept string) {
		if prefersProblem([]string{accept}) && !strings.Contains(accept, "/") {
			t.Errorf("%q names no type", accept)
		}
		// Lines are one list: where it is cut between elements makes no difference.
		if before, after := cutUnquoted(accept, ','); prefersProblem([]string{accept}) != prefersProblem([]string{before, after}) {
			t.Errorf("%q means another thing in two lines", accept)
		}
		if _, quality, _ := parseRange(accept); quality < 0 || quality > 1000 {
			t.Errorf("%q: weight %d", accept, quality)
		}
	})
}

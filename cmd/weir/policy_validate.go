package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weir-limiter/weir/pkg/config"
)

func newPolicyValidateCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a configuration file, and tell every error in it",
		Long: `Check a configuration file as "weir attach" and "weir run" would read it. Every error is told with its file,
line and column, what is wrong, and the mend; the exit code is 1 then.`,
		Example: "  weir policy validate /etc/weir/weir.yaml\n  weir policy validate weir.yaml -o json",
		Args:    exactArgs(1, "one file"),
		RunE:    func(_ *cobra.Command, args []string) error { return validate(e, args[0]) },
	}
}

// validateView is the JSON of weir policy validate.
type validateView struct {
	File     string         `json:"file"`
	Valid    bool           `json:"valid"`
	Errors   []errorView    `json:"errors"`
	Warnings []unmetPolicy  `json:"warnings"` // policies that no packet can meet, by the interfaces of the file
	Policies []listedPolicy `json:"policies"` // empty unless the file is valid
}

// errorView is one error of a file. Line and column count from 1.
type errorView struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Problem string `json:"problem"`
	Mend    string `json:"mend"`
}

func validate(e *env, file string) error {
	v := validateView{File: file, Errors: []errorView{}, Warnings: []unmetPolicy{}, Policies: []listedPolicy{}}
	c, err := config.Load(file)
	if err == nil {
		v.Valid, v.Policies, v.Warnings = true, listFile(c), unmet(c.Policies, listedPlaces(c.Interfaces))
		return e.show(v, func(p *page) { writeValid(p, &v) })
	}
	var faults config.Errors
	if !errors.As(err, &faults) {
		return err
	}
	for _, f := range faults {
		v.Errors = append(v.Errors, errorView{f.File, f.Line, f.Column, f.Path, f.Problem, f.Mend})
	}
	return errors.Join(e.show(v, func(p *page) {
		for _, f := range faults {
			p.printf("%v\n", f)
		}
	}), fmt.Errorf("%s: %s", file, plural(len(faults), "error", "errors")))
}

func writeValid(p *page, v *validateView) {
	p.printf("%s: %s, %s\n", v.File, plural(len(v.Policies), "policy", "policies"), p.paint(green, "valid"))
	if len(v.Policies) > 0 {
		p.printf("\n")
		writeListed(p, v.Policies)
	}
	for _, u := range v.Warnings {
		p.printf("\n%s\n", p.paint(yellow, fmt.Sprintf("policy %s meets no packet: %s", u.Policy, u.Why)))
	}
}

package server

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Policies is who knows the policies and lists in force, and changes them. Its methods may be called by
// several goroutines at once. An error that is a [Problem] is answered as it is, any other with status 500.
type Policies interface {
	// Document is what is in force, in the order in which it was written.
	Document(ctx context.Context) (policy.Document, error)
	// Change puts in force what edit makes of what is, whole or not at all. An error of edit is returned
	// as it is. With dryRun it changes nothing, and tells what it would.
	Change(ctx context.Context, edit Edit, dryRun bool) (Applied, error)
}

// Edit makes another document of one, which it leaves as it is.
type Edit func(policy.Document) (policy.Document, error)

// Applied is what a change did, or would do. Clients read it: add fields, rename none.
type Applied struct {
	DryRun bool `json:"dry_run"`
	// Policies has every policy from before and after, by what became of it.
	Policies []PolicyChange `json:"policies"`
	Allow    ListChange     `json:"allow"`
	Deny     ListChange     `json:"deny"`
	// Lasts says for how long the change is good.
	Lasts string `json:"lasts"`
}

// Outcome is what became of a policy.
type Outcome string

// The outcomes.
const (
	OutcomeAdded     Outcome = "added"
	OutcomeChanged   Outcome = "changed"
	OutcomeRemoved   Outcome = "removed"
	OutcomeUnchanged Outcome = "unchanged"
)

// PolicyChange is what became of one policy.
type PolicyChange struct {
	Policy  string  `json:"policy"`
	Outcome Outcome `json:"outcome"`
	// Fields are those that have another value; only of a changed policy.
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is a field with its values as JSON has them; null is for one that is not set.
type FieldChange struct {
	Field string `json:"field"`
	From  any    `json:"from"`
	To    any    `json:"to"`
}

// ListChange is what became of allow or deny.
type ListChange struct {
	Added   []netip.Prefix `json:"added"`
	Removed []netip.Prefix `json:"removed"`
	Kept    int            `json:"kept"`
}

// policyRoutes are such that PUT takes what GET answers.
func policyRoutes(p Policies) []route {
	change := func(edit func(*http.Request) (Edit, error)) http.Handler {
		return answer(func(r *http.Request) (any, error) {
			dryRun, err := queryFlag(r, "dry_run")
			if err != nil {
				return nil, err
			}
			e, err := edit(r)
			if err != nil {
				return nil, err
			}
			return p.Change(r.Context(), e, dryRun)
		})
	}
	return []route{
		{"GET /v1/policies", forAll, answer(func(r *http.Request) (any, error) { return p.Document(r.Context()) })},
		{"GET /v1/policies/{name}", forAll, answer(func(r *http.Request) (any, error) { return onePolicy(r, p) })},
		{"PUT /v1/policies", guarded, change(replaceAll)},
		{"PUT /v1/policies/{name}", guarded, change(putOne)},
		{"DELETE /v1/policies", guarded, change(func(*http.Request) (Edit, error) { return WithoutPolicies, nil })},
		{"DELETE /v1/policies/{name}", guarded, change(func(r *http.Request) (Edit, error) {
			return WithoutPolicy(r.PathValue("name")), nil
		})},
	}
}

// queryFlag reads a flag of the query, false by default.
func queryFlag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	set, err := strconv.ParseBool(text)
	if err != nil {
		return false, NewProblem(http.StatusBadRequest, "%s=%s: want true or false", name, text)
	}
	return set, nil
}

func onePolicy(r *http.Request, p Policies) (any, error) {
	d, err := p.Document(r.Context())
	if err != nil {
		return nil, err
	}
	i := indexOf(d, r.PathValue("name"))
	if i < 0 {
		return nil, noSuchPolicy(d, r.PathValue("name"))
	}
	return d.Policies[i], nil
}

func replaceAll(r *http.Request) (Edit, error) {
	var d policy.Document
	if err := decode(r, &d, maxDocument); err != nil {
		return nil, err
	}
	return func(policy.Document) (policy.Document, error) { return d, nil }, nil
}

func putOne(r *http.Request) (Edit, error) {
	var p policy.Policy
	if err := decode(r, &p, maxDocument); err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	if p.Name == "" {
		p.Name = name
	}
	if p.Name != name {
		bad := NewProblem(http.StatusBadRequest, "the body is of another policy than the path")
		bad.Errors = []Fault{{Field: "name", Problem: "is " + strconv.Quote(p.Name) + ", and the path has " + strconv.Quote(name), Mend: "make them the same, or leave name out"}}
		return nil, bad
	}
	return WithPolicy(p), nil
}

// WithPolicy puts a policy in the place of the one of the same name, or behind all others.
func WithPolicy(p policy.Policy) Edit {
	return func(d policy.Document) (policy.Document, error) {
		d.Policies = slices.Clone(d.Policies)
		if i := indexOf(d, p.Name); i >= 0 {
			d.Policies[i] = p
		} else {
			d.Policies = append(d.Policies, p)
		}
		return d, nil
	}
}

// WithoutPolicy takes one policy out; that there is none of the name is a [Problem].
func WithoutPolicy(name string) Edit {
	return func(d policy.Document) (policy.Document, error) {
		i := indexOf(d, name)
		if i < 0 {
			return d, noSuchPolicy(d, name)
		}
		d.Policies = slices.Delete(slices.Clone(d.Policies), i, i+1)
		return d, nil
	}
}

// WithoutPolicies takes all policies out, and leaves the lists.
func WithoutPolicies(d policy.Document) (policy.Document, error) {
	d.Policies = nil
	return d, nil
}

func indexOf(d policy.Document, name string) int {
	return slices.IndexFunc(d.Policies, func(p policy.Policy) bool { return p.Name == name })
}

func noSuchPolicy(d policy.Document, name string) error {
	names := []string{}
	for _, p := range d.Policies {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return NewProblem(http.StatusNotFound, "no policy %q is in force (there are: %s)", name, strings.Join(names, ", "))
}

// Invalid is the problem of a document or policy that has faults.
func Invalid(faults []policy.Fault) *Problem {
	p := NewProblem(http.StatusUnprocessableEntity, "the policies can't be enforced as they are")
	for _, f := range faults {
		p.Errors = append(p.Errors, Fault{Field: f.Path, Problem: f.Problem, Mend: f.Mend})
	}
	return p
}

package limiter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-limiter/weir/pkg/policy"
)

// ErrUnknownPolicy and ErrPolicyExists are why a policy can't be changed, or added.
var (
	ErrUnknownPolicy = errors.New("no such policy")
	ErrPolicyExists  = errors.New("there is a policy of this name")
)

// InvalidError is why policies can't be put in force.
type InvalidError struct{ Faults []policy.Fault }

// Error has a line for each fault.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Document is what is in force: policies of all layers, as they were given and with consistency and
// on_store_failure filled in, and lists.
func (l *Limiter) Document() policy.Document { return l.set.Load().document }

// Replace puts a document in force, in one step for requests. Policies that keep their names keep their
// counters, and with their scope their buckets. Policies of layer kernel and those that are off are kept,
// and decide nothing. It fails, and changes nothing, with an [*InvalidError].
func (l *Limiter) Replace(doc policy.Document) error {
	return l.change(func(policy.Document) (policy.Document, error) { return doc, nil })
}

// Try tells what Replace would fail with.
func (l *Limiter) Try(doc policy.Document) error {
	doc, err := l.admit(doc)
	if err != nil {
		return err
	}
	_, err = l.compile(doc, l.set.Load())
	return err
}

// AddPolicy puts one more policy in force, with its defaults filled in. It fails with [ErrPolicyExists] or
// an [*InvalidError].
func (l *Limiter) AddPolicy(_ context.Context, p policy.Policy) error {
	return l.change(func(doc policy.Document) (policy.Document, error) {
		if at(doc, p.Name) >= 0 {
			return doc, fmt.Errorf("add %q: %w (update it, or choose another name)", p.Name, ErrPolicyExists)
		}
		doc.Policies = append(slices.Clone(doc.Policies), p.WithDefaults())
		return doc, nil
	})
}

// UpdatePolicy puts a policy in the place of the one of the same name, or fails with [ErrUnknownPolicy] or
// an [*InvalidError].
func (l *Limiter) UpdatePolicy(_ context.Context, p policy.Policy) error {
	return l.change(func(doc policy.Document) (policy.Document, error) {
		i := at(doc, p.Name)
		if i < 0 {
			return doc, unknown("update", p.Name)
		}
		doc.Policies = slices.Clone(doc.Policies)
		doc.Policies[i] = p.WithDefaults()
		return doc, nil
	})
}

// RemovePolicy takes a policy out of force, or fails with [ErrUnknownPolicy].
func (l *Limiter) RemovePolicy(_ context.Context, name string) error {
	return l.change(func(doc policy.Document) (policy.Document, error) {
		i := at(doc, name)
		if i < 0 {
			return doc, unknown("remove", name)
		}
		doc.Policies = slices.Delete(slices.Clone(doc.Policies), i, i+1)
		return doc, nil
	})
}

func at(doc policy.Document, name string) int {
	return slices.IndexFunc(doc.Policies, func(p policy.Policy) bool { return p.Name == name })
}

func unknown(doing, name string) error { return fmt.Errorf("%s %q: %w", doing, name, ErrUnknownPolicy) }

// change puts in force what edit makes of the document, whole or not at all.
func (l *Limiter) change(edit func(policy.Document) (policy.Document, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.set.Load()
	doc, err := edit(before.document)
	if err != nil {
		return err
	}
	if doc, err = l.admit(doc); err != nil {
		return err
	}
	after, err := l.compile(doc, before)
	if err != nil {
		return err
	}
	l.set.Store(after)
	return nil
}

// admit judges a document, and fills in what depends on the store. An algorithm that the limiter was given is judged
// by whoever gave it; its counts are here, and no store has them.
func (l *Limiter) admit(doc policy.Document) (policy.Document, error) {
	doc.Policies = slices.Clone(doc.Policies)
	known := doc
	known.Policies = slices.Clone(doc.Policies)
	var faults []policy.Fault
	for i := range known.Policies {
		p := &known.Policies[i]
		if l.algorithms[p.Algorithm] == nil || p.Layer != policy.LayerL7 {
			continue
		}
		switch p.Consistency {
		case "", policy.ConsistencyLocal:
			doc.Policies[i].Consistency = policy.ConsistencyLocal
		default:
			faults = append(faults, policy.Fault{
				Path:    fmt.Sprintf("policies[%d].consistency", i),
				Problem: fmt.Sprintf("algorithm %s is this program's own, and has no %s", p.Algorithm, p.Consistency),
				Mend:    `remove consistency or set "consistency: local"`,
			})
		}
		p.Algorithm, p.Consistency = policy.AlgorithmTokenBucket, policy.ConsistencyLocal
	}
	if faults = append(known.ValidateFor(l.policyStore()), faults...); len(faults) > 0 {
		return doc, &InvalidError{faults}
	}
	return doc.WithStore(l.policyStore()), nil
}

// policyStore is what policies have to know of the store.
func (l *Limiter) policyStore() policy.Store {
	return policy.Store{Shared: l.store != nil, OnFailure: l.onFailure}
}

package policy

import (
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a policy, or with a set of them.
type Fault struct {
	// Path names the field as the configuration file spells it: "burst",
	// "match.ports[1]"; from [ValidateSet] "policies[2].name".
	Path string
	// Problem says what is wrong with the value.
	Problem string
	// Mend says what to do about it.
	Mend string
	// Needs lists other fields on whose values the judgement rests. A caller
	// that could not read one of them can leave the fault out.
	Needs []string
	// Earlier is the path of the field that already holds the same value, if
	// the fault is a duplicate.
	Earlier string
}

// Error returns path, problem and mend in one line.
func (f Fault) Error() string { return f.Path + ": " + f.Problem + "; " + f.Mend }

// maxFaults bounds how many faults of a policy, and of a set, are told, so that
// garbage does not become a report many times its size.
const maxFaults = 1000

// faults collects what one check finds.
type faults []Fault

func (fs *faults) add(path, problem, mend string, needs ...string) {
	fs.append(Fault{Path: path, Problem: problem, Mend: mend, Needs: needs})
}

func (fs *faults) append(f Fault) {
	if len(*fs) < maxFaults {
		*fs = append(*fs, f)
	}
}

// addNew appends those of more whose path has no fault yet: a field whose value
// makes no sense need not be called unsupported too.
func (fs *faults) addNew(more []Fault) {
	known := *fs
	for _, f := range more {
		if !slices.ContainsFunc(known, func(k Fault) bool { return k.Path == f.Path }) {
			fs.append(f)
		}
	}
}

// list joins the values of an enum for a message.
func list[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return strings.Join(words, ", ")
}

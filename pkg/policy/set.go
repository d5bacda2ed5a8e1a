package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// MaxKernelPolicies is how many policies the kernel evaluates at most: one bit
// each in a 64-bit word.
const MaxKernelPolicies = 64

// ValidateSet returns everything that is wrong with the policies, each by
// itself and together, with paths such as "policies[2].name". Nil means that
// the set can be enforced.
func ValidateSet(policies []Policy) []Fault { return Document{Policies: policies}.Validate() }

// within returns the fault with its paths seen from the set.
func (f Fault) within(prefix string) Fault {
	needs := make([]string, len(f.Needs))
	for i, need := range f.Needs {
		needs[i] = prefix + need
	}
	f.Path, f.Needs = prefix+f.Path, needs
	return f
}

// checkNames returns the index of the first policy of each name.
func checkNames(fs *faults, policies []Policy) map[string]int {
	first := make(map[string]int, len(policies))
	for i, p := range policies {
		j, taken := first[p.Name]
		if !taken {
			first[p.Name] = i
			continue
		}
		if p.Name == "" {
			continue // an empty name is a fault of its own
		}
		fs.append(Fault{
			Path:    fmt.Sprintf("policies[%d].name", i),
			Problem: fmt.Sprintf("the name %s is already taken by policies[%d]", Quote(p.Name), j),
			Mend:    "give each policy a name of its own",
			Earlier: fmt.Sprintf("policies[%d].name", j),
		})
	}
	return first
}

func checkCount(fs *faults, policies []Policy) {
	count := 0
	for i, p := range policies {
		if !p.inKernel() {
			continue
		}
		if count++; count > MaxKernelPolicies {
			fs.add(fmt.Sprintf("policies[%d]", i), fmt.Sprintf("the kernel takes at most %d policies", MaxKernelPolicies),
				`join policies, or set "mode: off" on some`)
			return // one fault says it for all that follow
		}
	}
}

func (p Policy) inKernel() bool { return p.Layer == LayerKernel && p.Mode != ModeOff }

// KernelPolicies returns the policies that the kernel has to enforce, in the
// order in which it evaluates them: enforce before shadow, then by falling
// priority, then as given. The result is a new slice.
func KernelPolicies(policies []Policy) []Policy {
	var kernel []Policy
	for _, p := range policies {
		if p.inKernel() {
			kernel = append(kernel, p)
		}
	}
	slices.SortStableFunc(kernel, func(a, b Policy) int {
		return cmp.Or(cmp.Compare(a.Mode.rank(), b.Mode.rank()), cmp.Compare(b.Priority, a.Priority))
	})
	return kernel
}

// L7Policies returns the policies that layer 7 has to enforce, in the order in
// which it evaluates them: by falling priority, then as given. Those in shadow
// keep their place, since they are decided on their own. The result is a new
// slice.
func L7Policies(policies []Policy) []Policy {
	l7 := slices.DeleteFunc(slices.Clone(policies), func(p Policy) bool { return !p.inL7() })
	slices.SortStableFunc(l7, func(a, b Policy) int { return cmp.Compare(b.Priority, a.Priority) })
	return l7
}

func (p Policy) inL7() bool { return p.Layer == LayerL7 && p.Mode != ModeOff }

// rank puts what can drop a packet before what only watches.
func (m Mode) rank() int {
	if m == ModeEnforce {
		return 0
	}
	return 1
}

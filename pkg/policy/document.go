package policy

import (
	"fmt"
	"net/netip"
)

// MaxPolicies is how many policies there may be, those of layer 7 and those that
// are off included.
const MaxPolicies = 10_000

// MaxPrefixes is how many entries match.sources of all policies, allow and
// deny may have together.
const MaxPrefixes = 100_000

// Document is everything that decides over packets and requests and is written down: what a
// file asks for, what the API takes and gives, what a program in the kernel was
// made of.
type Document struct {
	Policies []Policy
	// Allow and Deny are source prefixes without host bits that are judged
	// before any policy: who is in Allow passes, who is only in Deny does not.
	// They may overlap.
	Allow, Deny []netip.Prefix
}

// Lists returns the lists of the document.
func (d Document) Lists() Lists { return Lists{Allow: d.Allow, Deny: d.Deny} }

// Validate returns everything that is wrong with the document, with paths such
// as "policies[2].name" and "deny[0]". Nil means that it can be enforced.
func (d Document) Validate() []Fault {
	var fs faults
	if n := len(d.Policies); n > MaxPolicies {
		fs.add(fmt.Sprintf("policies[%d]", MaxPolicies), fmt.Sprintf("there are %d policies", n), fmt.Sprintf("write at most %d", MaxPolicies))
		return fs // the rest would be long
	}
	for i, p := range d.Policies {
		for _, f := range p.Validate() {
			fs.append(f.within(fmt.Sprintf("policies[%d].", i)))
		}
	}
	first := checkNames(&fs, d.Policies)
	checkReplaces(&fs, d.Policies, first)
	checkCount(&fs, d.Policies)
	checkList(&fs, "allow", d.Allow)
	checkList(&fs, "deny", d.Deny)
	d.checkPrefixes(&fs)
	return fs
}

// checkList judges the entries of allow or deny.
func checkList(fs *faults, name string, prefixes []netip.Prefix) {
	first := make(map[netip.Prefix]int, len(prefixes))
	for i, prefix := range prefixes {
		path := fmt.Sprintf("%s[%d]", name, i)
		j, taken := first[prefix]
		if !taken {
			first[prefix] = i
			fs.source(path, prefix)
			continue
		}
		fs.append(Fault{
			Path:    path,
			Problem: fmt.Sprintf("%s is already listed as %s[%d]", prefix, name, j),
			Mend:    "remove one of the two",
			Earlier: fmt.Sprintf("%s[%d]", name, j),
		})
	}
}

// checkPrefixes bounds the memory that the kernel's tries take.
func (d Document) checkPrefixes(fs *faults) {
	count := 0
	within := func(path string, n int) bool {
		if count += n; count <= MaxPrefixes {
			return true
		}
		fs.add(path, fmt.Sprintf("match.sources, allow and deny have more than %d entries together", MaxPrefixes), "join prefixes to wider ones")
		return false // one fault says it for all that follow
	}
	for i, p := range d.Policies {
		if !within(fmt.Sprintf("policies[%d].match.sources", i), len(p.Match.Sources)) {
			return
		}
	}
	_ = within("allow", len(d.Allow)) && within("deny", len(d.Deny))
}

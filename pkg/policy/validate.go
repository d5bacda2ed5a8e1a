package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Validate returns everything that is wrong with the policy, and nil if it can
// be enforced as it stands. Paths are relative to the policy. Call it after
// [Policy.WithDefaults].
//
// Values are judged in every mode. What does not go together is a fault only if
// the policy is not off: a policy that does nothing cannot be silently ignored.
// Whether there is the store that it asks for, [Document.ValidateFor] judges.
func (p Policy) Validate() []Fault {
	var fs faults
	p.checkName(&fs)
	p.checkEnums(&fs)
	p.checkRates(&fs)
	p.checkPrefixes(&fs)
	p.checkHeaders(&fs)
	p.checkTexts(&fs)
	fs.addNew(p.templateFaults())
	fs.addNew(p.Match.faults())
	if p.Mode != ModeOff {
		fs.addNew(p.contradictions())
	}
	return fs
}

// MaxNameLen is the length of the longest policy name, in bytes.
const MaxNameLen = 63

func (p Policy) checkName(fs *faults) {
	const mend = `use 1 to 63 of a-z, 0-9, "_" and "-"`
	switch {
	case p.Name == "":
		fs.add("name", "must not be empty", mend)
	case len(p.Name) > MaxNameLen:
		fs.add("name", fmt.Sprintf("has %d bytes", len(p.Name)), mend)
	case !plain(p.Name):
		fs.add("name", fmt.Sprintf("%q has a character that a name cannot have", p.Name), mend)
	}
}

// plain reports whether a name has no byte outside the permitted ones.
func plain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
}

func (p Policy) checkEnums(fs *faults) {
	checkEnum(fs, "scope", p.Scope, Scopes())
	checkEnum(fs, "unit", p.Unit, Units())
	checkEnum(fs, "algorithm", p.Algorithm, Algorithms())
	checkEnum(fs, "layer", p.Layer, Layers())
	checkEnum(fs, "mode", p.Mode, Modes())
	if p.Consistency != "" { // which is for [Policy.WithStore]
		checkEnum(fs, "consistency", p.Consistency, Consistencies())
	}
	if p.OnStoreFailure != "" {
		checkEnum(fs, "on_store_failure", p.OnStoreFailure, StoreFailures())
	}
	checkEnum(fs, "on_pressure", p.OnPressure, Pressures())
	checkEnum(fs, "on_fragment", p.OnFragment, Fragments())
	checkEnum(fs, "action", p.Action, Actions())
}

func checkEnum[T ~string](fs *faults, path string, value T, allowed []T) {
	if !slices.Contains(allowed, value) {
		fs.add(path, "unknown value "+Quote(string(value)), "use one of "+list(allowed))
	}
}

func (p Policy) checkPrefixes(fs *faults) {
	for _, c := range []struct {
		path     string
		bits     uint8
		max, def uint8
	}{
		{"ipv4_prefix", p.IPv4Prefix, 32, DefaultIPv4Prefix},
		{"ipv6_prefix", p.IPv6Prefix, 128, DefaultIPv6Prefix},
	} {
		if c.bits < 1 || c.bits > c.max {
			fs.add(c.path, fmt.Sprintf("must be 1 to %d bits, got %d", c.max, c.bits),
				fmt.Sprintf("remove it for the default of %d, or set a length in that range", c.def))
		}
	}
}

// templateFaults judges the key of scope custom by itself.
func (p Policy) templateFaults() []Fault {
	var fs faults
	if p.Key != "" {
		_, err := ParseTemplate(p.Key)
		fs.text("key", err)
	}
	return fs
}

// text adds what a reader of texts found, if it did.
func (fs *faults) text(path string, err error) {
	if bad, ok := errors.AsType[*TextError](err); ok {
		fs.add(path, bad.Problem, bad.Mend)
	}
}

// MaxText is the length of the longest key, name or pattern, in bytes.
const MaxText = 1024

// checkTexts refuses texts that are too long, those that JSON, which knows
// only Unicode, could not carry, and those with control characters, which no
// request has, and which a terminal would obey.
func (p Policy) checkTexts(fs *faults) {
	check := func(path string, texts ...string) {
		for _, text := range texts {
			switch {
			case path != "headers" && strings.ContainsFunc(text, unicode.IsControl): // which headers have an own fault for
				fs.add(path, Quote(text)+" has a control character", "remove it")
				return
			case len(text) > MaxText:
				fs.add(path, fmt.Sprintf("%s has %d bytes", Quote(text), len(text)), fmt.Sprintf("shorten it to at most %d", MaxText))
				return
			case !utf8.ValidString(text):
				fs.add(path, Quote(text)+" is not UTF-8 text", "write it in UTF-8")
				return
			}
		}
	}
	check("key", p.Key)
	check("headers", flatten(p.Headers)...)
	check("match.interfaces", p.Match.Interfaces...)
	check("match.methods", p.Match.Methods...)
	check("match.endpoints", p.Match.Endpoints...)
	check("match.users", p.Match.Users...)
	check("match.roles", p.Match.Roles...)
	check("match.metadata", flatten(p.Match.Metadata)...)
}

// flatten returns keys and values, each sorted.
func flatten(m map[string]string) []string {
	return append(slices.Sorted(maps.Keys(m)), slices.Sorted(maps.Values(m))...)
}

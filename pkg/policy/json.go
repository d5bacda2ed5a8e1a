package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// MaxJSONSize is the size of the largest JSON text that is read, in bytes.
const MaxJSONSize = 8 << 20

// What is written as JSON has the fields and texts of the configuration file: a
// window is "1s", a prefix "203.0.113.0/24", a port 53 or "8000-8100". What is
// read is as strict as there: unknown fields, fields that are set again, null
// and values of another type are errors, and so are names in other capitals.
// Errors of values are of type *[FieldError].

// MarshalJSON returns the policy as an object. Every field is written out but
// those that are empty.
func (p Policy) MarshalJSON() ([]byte, error) { return writeObject(p.jsonFields()) }

// UnmarshalJSON reads an object, and sets fields that it does not have to
// their defaults. It does not judge what it reads: that is for
// [Policy.Validate].
func (p *Policy) UnmarshalJSON(data []byte) error {
	var read Policy
	if err := readObject(data, read.jsonFields()); err != nil {
		return err
	}
	*p = read.WithDefaults()
	// WithDefaults cannot tell a written zero from a field that is not there. A second reading
	// puts the written ones back, to be judged.
	return readObject(data, p.jsonFields())
}

func (p *Policy) jsonFields() []jsonField {
	return []jsonField{
		{"name", &p.Name, false},
		{"scope", &p.Scope, false},
		{"limit", &p.Limit, false},
		{"window", (*jsonDuration)(&p.Window), false},
		{"burst", &p.Burst, false},
		{"unit", &p.Unit, false},
		{"algorithm", &p.Algorithm, false},
		{"priority", &p.Priority, false},
		{"layer", &p.Layer, false},
		{"mode", &p.Mode, false},
		{"consistency", &jsonWord{(*string)(&p.Consistency)}, p.Consistency == ""},
		{"on_store_failure", &jsonWord{(*string)(&p.OnStoreFailure)}, p.OnStoreFailure == ""},
		{"on_pressure", &p.OnPressure, false},
		{"on_fragment", &p.OnFragment, false},
		{"action", &p.Action, false},
		{"new_sources", &p.NewSources, p.NewSources == nil},
		{"ipv4_prefix", &p.IPv4Prefix, false},
		{"ipv6_prefix", &p.IPv6Prefix, false},
		{"key", &p.Key, p.Key == ""},
		{"replaces", (*jsonList[string])(&p.Replaces), len(p.Replaces) == 0},
		{"headers", (*jsonTexts)(&p.Headers), len(p.Headers) == 0},
		{"match", &p.Match, p.Match.isEmpty()},
	}
}

// MarshalJSON returns the cap as an object.
func (n NewSources) MarshalJSON() ([]byte, error) { return writeObject(n.jsonFields()) }

// UnmarshalJSON reads an object.
func (n *NewSources) UnmarshalJSON(data []byte) error {
	*n = NewSources{}
	return readObject(data, n.jsonFields())
}

func (n *NewSources) jsonFields() []jsonField {
	return []jsonField{
		{"limit", &n.Limit, false},
		{"window", (*jsonDuration)(&n.Window), false},
	}
}

// MarshalJSON returns the match as an object of the fields that are not empty.
func (m Match) MarshalJSON() ([]byte, error) { return writeObject(m.jsonFields()) }

// UnmarshalJSON reads an object.
func (m *Match) UnmarshalJSON(data []byte) error {
	*m = Match{}
	return readObject(data, m.jsonFields())
}

func (m *Match) jsonFields() []jsonField {
	return []jsonField{
		{"sources", (*jsonPrefixes)(&m.Sources), len(m.Sources) == 0},
		{"protocol", &m.Protocol, m.Protocol == ""},
		{"ports", (*jsonList[PortRange])(&m.Ports), len(m.Ports) == 0},
		{"interfaces", (*jsonList[string])(&m.Interfaces), len(m.Interfaces) == 0},
		{"direction", &m.Direction, m.Direction == DirectionBoth},
		{"methods", (*jsonList[string])(&m.Methods), len(m.Methods) == 0},
		{"endpoints", (*jsonList[string])(&m.Endpoints), len(m.Endpoints) == 0},
		{"users", (*jsonList[string])(&m.Users), len(m.Users) == 0},
		{"roles", (*jsonList[string])(&m.Roles), len(m.Roles) == 0},
		{"metadata", (*jsonTexts)(&m.Metadata), len(m.Metadata) == 0},
	}
}

func (m Match) isEmpty() bool {
	for _, f := range m.fields() {
		if f.used {
			return false
		}
	}
	return true
}

// MarshalJSON returns the range as the number 53 or the text "8000-8100".
func (r PortRange) MarshalJSON() ([]byte, error) {
	if r.First == r.Last {
		return json.Marshal(r.First)
	}
	return json.Marshal(r.String())
}

// UnmarshalJSON reads a number, or a text as [ParsePorts] does.
func (r *PortRange) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	ports, err := ParsePorts(text)
	if err != nil {
		return err
	}
	*r = ports
	return nil
}

// MarshalJSON returns the document as an object of the fields that are not
// empty.
func (d Document) MarshalJSON() ([]byte, error) { return writeObject(d.jsonFields()) }

// UnmarshalJSON reads an object. It does not judge what it reads: that is for
// [Document.Validate].
func (d *Document) UnmarshalJSON(data []byte) error {
	*d = Document{}
	return readObject(data, d.jsonFields())
}

func (d *Document) jsonFields() []jsonField {
	return []jsonField{
		{"policies", (*jsonPolicies)(&d.Policies), len(d.Policies) == 0},
		{"allow", (*jsonPrefixes)(&d.Allow), len(d.Allow) == 0},
		{"deny", (*jsonPrefixes)(&d.Deny), len(d.Deny) == 0},
	}
}

// jsonPolicies is a list of policies that are counted before they are read.
type jsonPolicies []Policy

func (p *jsonPolicies) UnmarshalJSON(data []byte) error {
	var values []json.RawMessage
	if err := readValue(data, &values); err != nil {
		return err
	}
	if len(values) > MaxPolicies {
		return fmt.Errorf("has %d entries, want at most %d", len(values), MaxPolicies)
	}
	return readList((*[]Policy)(p), values)
}

// jsonPrefixes is a list of prefixes, each a text as [ParsePrefix] reads it.
type jsonPrefixes []netip.Prefix

func (p *jsonPrefixes) UnmarshalJSON(data []byte) error {
	var texts jsonList[string]
	if err := texts.UnmarshalJSON(data); err != nil {
		return err
	}
	*p = nil
	for i, text := range texts {
		prefix, err := ParsePrefix(text)
		if err != nil {
			return atIndex(i, err)
		}
		*p = append(*p, prefix)
	}
	return nil
}

package loader

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/policy"
)

// documentMap is the map that is pinned beside a program and tells what the program enforces, as its
// author wrote it: a policy.Document in JSON, the policies in the order of evaluation. No program reads it.
const documentMap = "document"

// makeDocument writes a ruleset into a map of its own.
func makeDocument(r ruleset) (*ebpf.Map, error) {
	data, err := json.Marshal(policy.Document{Policies: r.policies, Allow: r.allow, Deny: r.deny})
	if err != nil {
		return nil, fmt.Errorf("write down the policies: %w", err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: documentMap, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(data)), MaxEntries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("create the map of the policies' %d bytes: %w", len(data), explain(err))
	}
	if err := m.Put(uint32(0), data); err != nil {
		m.Close()
		return nil, fmt.Errorf("write down the policies: %w", explain(err))
	}
	return m, nil
}

func readDocument(m *ebpf.Map) (d policy.Document, err error) {
	data, err := m.LookupBytes(uint32(0))
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(bytes.TrimRight(data, "\x00"), &d); err != nil {
		return d, fmt.Errorf("%w: what was written down of the policies: %w", ErrIncompatible, err)
	}
	return d, nil
}

// loadedSet is what a program enforces, as the program and its author have it.
type loadedSet struct {
	policies   []LoadedPolicy // in the order of evaluation
	lists      policy.Lists
	few        []xdpFewSource // the prefixes that are compared one by one
	few4       int            // of them are IPv4's
	sourceless uint64
}

// readLoaded puts a program's constants and its document together.
func readLoaded(hook Hook, rodata, document *ebpf.Map) (*loadedSet, error) {
	spec, err := ObjectsOf(hook)
	if err != nil {
		return nil, err
	}
	if want := spec.Maps[".rodata"].ValueSize; rodata.ValueSize() != want {
		return nil, fmt.Errorf("%w: the program's constants have %d bytes, this version of weir has %d (run: weir detach --all with the version that attached)",
			ErrIncompatible, rodata.ValueSize(), want)
	}
	data, err := rodata.LookupBytes(uint32(0))
	if err != nil {
		return nil, err
	}
	c, err := decodeConstants(spec, data)
	if err != nil {
		return nil, err
	}
	d, err := readDocument(document)
	if err != nil {
		return nil, err
	}
	if int(c.count) != len(d.Policies) {
		return nil, fmt.Errorf("%w: the program has %d policies, %d are written down", ErrIncompatible, c.count, len(d.Policies))
	}
	set := &loadedSet{lists: d.Lists(), sourceless: c.sourceless}
	set.few4, set.few = int(c.few4), c.few[:min(int(c.few6), len(c.few))]
	for i, p := range d.Policies {
		set.policies = append(set.policies, decode(&c.policies[i], p))
	}
	return set, nil
}

// openLoaded is readLoaded of a pinned set.
func (d *StateDir) openLoaded(hook Hook, set string) (*loadedSet, error) {
	constants, err := d.openMap(set, ownMaps[constantsSection])
	if err != nil {
		return nil, err
	}
	defer constants.Close()
	document, err := d.openMap(set, ownMaps[documentMap])
	if err != nil {
		return nil, err
	}
	defer document.Close()
	return readLoaded(hook, constants, document)
}

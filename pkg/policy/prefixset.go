package policy

import (
	"net/netip"
	"slices"
)

// PrefixSet finds out whether an address is in one of many prefixes, by one look for each length that
// occurs. The zero value has none.
type PrefixSet struct {
	few     []netip.Prefix // instead of all else
	lengths [2][]int       // of IPv4 and IPv6
	all     map[netip.Prefix]struct{}
}

// fewPrefixes are compared one by one sooner than looked up.
const fewPrefixes = 8

// NewPrefixSet makes a set of prefixes without host bits, which it may keep.
func NewPrefixSet(prefixes []netip.Prefix) PrefixSet {
	if len(prefixes) <= fewPrefixes {
		return PrefixSet{few: prefixes}
	}
	s := PrefixSet{all: make(map[netip.Prefix]struct{}, len(prefixes))}
	for _, p := range prefixes {
		s.all[p] = struct{}{}
		family := familyOf(p.Addr())
		if !slices.Contains(s.lengths[family], p.Bits()) {
			s.lengths[family] = append(s.lengths[family], p.Bits())
		}
	}
	return s
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Empty reports whether there is no prefix in the set.
func (s *PrefixSet) Empty() bool { return len(s.few) == 0 && s.all == nil }

// Contains reports whether an address, which is no IPv4 inside IPv6 and has no zone, is in one of the prefixes. It
// does not allocate.
func (s *PrefixSet) Contains(a netip.Addr) bool {
	for _, p := range s.few {
		if p.Contains(a) {
			return true
		}
	}
	if s.all == nil || !a.IsValid() {
		return false
	}
	for _, bits := range s.lengths[familyOf(a)] {
		p, _ := a.Prefix(bits) // fails only for a length that addresses of this family do not have
		if _, ok := s.all[p]; ok {
			return true
		}
	}
	return false
}

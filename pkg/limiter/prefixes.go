package limiter

import (
	"net/netip"
	"slices"

	"github.com/weir-limiter/weir/pkg/policy"
)

// prefixSet finds out whether an address is in one of many prefixes, by one look for each length that
// occurs.
type prefixSet struct {
	few     []netip.Prefix // instead of all else
	lengths [2][]int       // of IPv4 and IPv6
	all     map[netip.Prefix]struct{}
}

// fewPrefixes are compared one by one sooner than looked up.
const fewPrefixes = 8

func newPrefixSet(prefixes []netip.Prefix) prefixSet {
	if len(prefixes) <= fewPrefixes {
		return prefixSet{few: prefixes}
	}
	s := prefixSet{all: make(map[netip.Prefix]struct{}, len(prefixes))}
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

func (s *prefixSet) empty() bool { return len(s.few) == 0 && s.all == nil }

func (s *prefixSet) has(a netip.Addr) bool {
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

// lists are allow and deny.
type lists struct{ allow, deny prefixSet }

func (l *lists) judge(a netip.Addr) policy.List {
	switch {
	case !a.IsValid():
		return policy.ListNone
	case l.allow.has(a):
		return policy.ListAllow
	case l.deny.has(a):
		return policy.ListDeny
	}
	return policy.ListNone
}

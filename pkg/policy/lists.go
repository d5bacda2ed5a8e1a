package policy

import "net/netip"

// Lists are the source prefixes that are judged before any policy.
type Lists struct {
	Allow []netip.Prefix
	Deny  []netip.Prefix
	// Bans are the timed bans that are in force.
	Bans []netip.Prefix
}

// List says which of the lists decided over a packet.
type List string

// The lists, in the order in which they are asked.
const (
	ListAllow List = "allow" // the packet passes, and is not charged
	ListDeny  List = "deny"  // it is dropped
	ListBan   List = "ban"   // it is dropped for now
	ListNone  List = "none"  // the policies decide
)

// Judge returns the list that decides over a source, and the narrowest of its
// prefixes that the source is in.
func (l Lists) Judge(source netip.Addr) (List, netip.Prefix) {
	for _, c := range []struct {
		list     List
		prefixes []netip.Prefix
	}{{ListAllow, l.Allow}, {ListDeny, l.Deny}, {ListBan, l.Bans}} {
		if prefix, ok := narrowest(c.prefixes, source); ok {
			return c.list, prefix
		}
	}
	return ListNone, netip.Prefix{}
}

// narrowest returns the longest of the prefixes that contains the address.
func narrowest(prefixes []netip.Prefix, address netip.Addr) (best netip.Prefix, found bool) {
	for _, prefix := range prefixes {
		if prefix.Contains(address) && (!found || prefix.Bits() > best.Bits()) {
			best, found = prefix, true
		}
	}
	return best, found
}

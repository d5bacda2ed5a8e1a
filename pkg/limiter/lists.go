package limiter

import (
	"net/netip"

	"github.com/weir-limiter/weir/pkg/policy"
)

// lists are allow and deny.
type lists struct{ allow, deny policy.PrefixSet }

func (l *lists) judge(a netip.Addr) policy.List {
	switch {
	case !a.IsValid():
		return policy.ListNone
	case l.allow.Contains(a):
		return policy.ListAllow
	case l.deny.Contains(a):
		return policy.ListDeny
	}
	return policy.ListNone
}

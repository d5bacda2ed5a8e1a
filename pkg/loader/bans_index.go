package loader

import (
	"net/netip"
	"time"
)

// banIndex has the bans of one address family. Of an entry, Until is what the kernel looks at: the latest
// end of all bans that cover the prefix, as a lookup finds the longest prefix alone, and so each has to
// speak for the wider ones. OwnUntil is the end of the ban of just this prefix. Both are nanoseconds of
// CLOCK_MONOTONIC.
type banIndex map[netip.Prefix]xdpBan

// banWrite is one entry to be written.
type banWrite struct {
	prefix netip.Prefix
	value  xdpBan
}

// adding lists what a ban of prefix until then changes: its own entry, then those of narrower ones that
// end earlier. The index stays as it is.
func (x banIndex) adding(prefix netip.Prefix, until time.Duration) []banWrite {
	after := func(q netip.Prefix) uint64 {
		if q == prefix {
			return uint64(until)
		}
		return x[q].OwnUntil
	}
	own := banWrite{prefix, xdpBan{Until: x.effective(prefix, after), OwnUntil: uint64(until)}}
	return append([]banWrite{own}, x.narrower(prefix, after)...)
}

// removing lists the entries that change when prefix is banned no longer, all of them narrower.
func (x banIndex) removing(prefix netip.Prefix) []banWrite {
	return x.narrower(prefix, func(q netip.Prefix) uint64 {
		if q == prefix {
			return 0
		}
		return x[q].OwnUntil
	})
}

// narrower lists the entries inside prefix which have another effective end if own ends are as told.
func (x banIndex) narrower(prefix netip.Prefix, own func(netip.Prefix) uint64) []banWrite {
	var writes []banWrite
	if prefix.IsSingleIP() {
		return nil
	}
	for q, v := range x {
		if q.Bits() <= prefix.Bits() || !prefix.Contains(q.Addr()) {
			continue
		}
		if until := x.effective(q, own); until != v.Until {
			writes = append(writes, banWrite{q, xdpBan{Until: until, OwnUntil: v.OwnUntil}})
		}
	}
	return writes
}

// effective is the latest end of a ban that covers prefix. own gives 0 for what is not banned.
func (x banIndex) effective(prefix netip.Prefix, own func(netip.Prefix) uint64) (until uint64) {
	for bits := prefix.Bits(); bits >= 0; bits-- {
		until = max(until, own(shorten(prefix, bits)))
	}
	return until
}

// wider finds the narrowest prefix around this one that is still banned.
func (x banIndex) wider(prefix netip.Prefix, now uint64) (netip.Prefix, bool) {
	for bits := prefix.Bits() - 1; bits >= 0; bits-- {
		if q := shorten(prefix, bits); x[q].OwnUntil > now {
			return q, true
		}
	}
	return netip.Prefix{}, false
}

func shorten(p netip.Prefix, bits int) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), bits).Masked()
}

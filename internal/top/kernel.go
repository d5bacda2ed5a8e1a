package top

import (
	"errors"
	"slices"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// kernel is what is attached: names for what events have numbers for, and the exact counts.
type kernel struct {
	attached   int
	policies   map[place]string
	interfaces map[int]string
	counts     []count // of the last seconds, oldest first
	lost       uint64  // samples, since the first reading
	trouble    error
}

// place is where a policy has its counters.
type place struct {
	ifindex int
	hook    string
	slot    uint8
}

// count is what the programs had counted at an instant.
type count struct {
	at      time.Duration
	passed  uint64
	dropped uint64
	lost    uint64 // samples that found the ring buffer full
	exact   bool   // passed is
}

// learn takes over what was read now. What can't be read leaves the names as they were.
func (k *kernel) learn(now time.Duration, all []loader.Attachment, err error) {
	if errors.Is(err, loader.ErrNothingAttached) {
		all, err = nil, nil
	}
	k.trouble = err
	if err != nil {
		return
	}
	k.attached = len(all)
	k.policies, k.interfaces = map[place]string{}, map[int]string{}
	c := count{at: now, exact: true}
	for i := range all {
		k.name(&all[i])
		c.add(&all[i])
	}
	if n := len(k.counts); n > 0 && c.lost >= k.counts[n-1].lost {
		k.lost += c.lost - k.counts[n-1].lost
	}
	if n := len(k.counts); n > 0 && (c.passed < k.counts[n-1].passed || c.dropped < k.counts[n-1].dropped) {
		k.counts = nil // something was detached, and its counts are gone
	}
	k.counts = append(k.counts, c)
	if oldest := now - Seconds*time.Second; k.counts[0].at < oldest {
		k.counts = k.counts[1:]
	}
}

// name notes an attachment's names. Events do not tell network namespaces: where the indices of two
// interfaces are the same, both names are told.
func (k *kernel) name(a *loader.Attachment) {
	if a.Index == 0 {
		return // vanished: nothing comes from there
	}
	k.interfaces[a.Index] = either(k.interfaces[a.Index], a.Interface)
	for _, p := range a.Policies {
		at := place{a.Index, string(a.Hook), p.Slot}
		k.policies[at] = either(k.policies[at], p.Name)
	}
}

func either(a, b string) string {
	if a == "" || a == b {
		return b
	}
	return a + " or " + b
}

// add counts an attachment's packets, but for those that have no source, which are in no sample either. Each
// drop is counted by the one policy or list that denied. What passed is counted by every policy that it
// met, and by none if it met none: so it is known exactly where one policy meets every packet.
func (c *count) add(a *loader.Attachment) {
	counted := &a.Counters
	for _, p := range counted.Policies {
		c.dropped += p[policy.VerdictDrop].Packets
	}
	c.dropped += counted.Listed["deny"].Packets + counted.Listed["ban"].Packets
	c.passed += counted.Listed["allow"].Packets
	c.lost += counted.EventsLost
	if name, ok := meetsAll(a.Policies); ok {
		p := counted.Policies[name]
		c.passed += p[policy.VerdictPass].Packets + p[policy.VerdictShadowDrop].Packets
		return
	}
	c.exact = false
}

// meetsAll finds a policy that every packet meets which no list decides over. Interface and direction
// do not narrow a policy where it is loaded.
func meetsAll(policies []loader.LoadedPolicy) (name string, ok bool) {
	for _, p := range policies {
		m := &p.Match
		replaced := slices.ContainsFunc(policies, func(other loader.LoadedPolicy) bool { return slices.Contains(other.Replaces, p.Name) })
		if len(m.Sources) == 0 && m.Protocol == "" && !p.NeedsPort() && !replaced {
			return p.Name, true
		}
	}
	return "", false
}

// counted are the exact rates since an instant, as near as they are known; nil if they are not.
func (k *kernel) counted(since time.Duration) *Counted {
	n := len(k.counts)
	if n < 2 {
		return nil
	}
	last, first := k.counts[n-1], k.counts[n-2]
	for i := n - 3; i >= 0 && k.counts[i].at >= since; i-- {
		first = k.counts[i]
	}
	seconds := (last.at - first.at).Seconds()
	if seconds <= 0 {
		return nil
	}
	c := &Counted{Dropped: tenths(float64(last.dropped-first.dropped) / seconds)}
	if first.exact && last.exact {
		passed := tenths(float64(last.passed-first.passed) / seconds)
		c.Passed = &passed
	}
	return c
}

// denier names who denied.
func (k *kernel) denier(d denier) *Denier {
	out := &Denier{Cause: d.cause, Interface: k.interfaces[d.ifindex], Hook: d.hook}
	if d.slot != loader.NoSlot {
		out.Policy = k.policies[place{d.ifindex, d.hook, d.slot}]
	}
	return out
}

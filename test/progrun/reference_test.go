package progrun

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/test/internal/bpfclock"
)

// reference decides over packets as the shipped program is to do: which policies apply by policy.Classify, what they
// admit by pkg/bucket. It takes nothing from the loader but the shape of the counters.
type reference struct {
	policies []policy.Policy // as they are evaluated
	rules    map[string]rule
	lists    policy.Lists
	bans     map[netip.Prefix]uint64 // until when, in ns
	place    policy.Place
	look     refLook
	jiffy    time.Duration

	table *bucket.Table
	cpus  map[int]*bucket.Slots
	count loader.Counters

	charges uint64       // how often a bucket was asked
	delay   bucket.Ticks // of the last packet, if it passed, until it may depart
	delayed []string     // the policies that it has to wait for
}

// rule is what a policy's buckets are computed with.
type rule struct {
	key           bucket.HashKey
	mask          bucket.Mask
	rate          bucket.Rate
	strangers     bucket.Rate // a burst of 0: no cap
	strangersHash uint64
}

func newReference(s *scenario) (*reference, error) {
	table, err := bucket.NewTable(make([]byte, s.entries/bucket.SetWays*bucket.SetSize))
	if err != nil {
		return nil, err
	}
	r := &reference{
		policies: s.policies, lists: s.lists, place: s.place(), look: refLook{outgoing: s.outgoing()}, bans: s.bans, rules: map[string]rule{},
		table: table, cpus: map[int]*bucket.Slots{}, count: newCounters(), jiffy: time.Duration(s.jiffy),
	}
	for _, p := range policy.KernelPoliciesAt(s.policies, r.place) {
		if r.rules[p.Name], err = newRule(p, s.hook); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		r.look.ports = r.look.ports || p.NeedsPort() || p.Match.Protocol != ""
		r.count.Policies[p.Name] = map[policy.Verdict]loader.Count{
			policy.VerdictPass: {}, policy.VerdictDrop: {}, policy.VerdictShadowDrop: {},
		}
		r.count.Strangers[p.Name], r.count.Paced[p.Name] = 0, 0
	}
	return r, nil
}

func newCounters() loader.Counters {
	c := loader.Counters{
		Policies: map[string]map[policy.Verdict]loader.Count{}, Strangers: map[string]uint64{}, Paced: map[string]uint64{},
		Unparsed: map[string]uint64{}, Listed: map[string]loader.Count{"allow": {}, "deny": {}, "ban": {}},
	}
	for _, reason := range []string{"truncated", "not_ip", "vlan_depth", "bad_header", "neighbor_discovery",
		"later_fragment", "extension_depth", "truncated_ports"} {
		c.Unparsed[reason] = 0
	}
	return c
}

func newRule(p policy.Policy, hook loader.Hook) (r rule, err error) {
	way := "" // what goes out has buckets of its own
	if hook == loader.HookTCEgress {
		way = " egress"
	}
	r.key = bucket.DeriveKey(bucket.Secret{}, string(p.Scope)+way, p.Name)
	r.mask = bucket.NewMask(p.IPv4Prefix, p.IPv6Prefix)
	if r.rate, err = newRate(p.Limit, p.Window, p.Burst); err != nil || p.NewSources == nil {
		return r, err
	}
	key := bucket.DeriveKey(bucket.Secret{}, "new_sources"+way, p.Name)
	r.strangersHash = key.HashGlobal()
	r.strangers, err = newRate(p.NewSources.Limit, p.NewSources.Window, p.NewSources.Limit)
	return r, err
}

func newRate(limit uint64, window time.Duration, burst uint64) (bucket.Rate, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return bucket.Rate{}, err
	}
	jiffy, err := bpfclock.Jiffy()
	if err != nil {
		return bucket.Rate{}, err
	}
	l, err := bucket.NewLimit(limit, window, burst)
	return bucket.NewRate(l, cpus, jiffy), err
}

// run decides over one frame that a CPU receives: xdpPass or xdpDrop.
func (r *reference) run(cpu int, frame []byte, clock bpfclock.Reading) uint32 {
	if r.cpus[cpu] == nil {
		r.cpus[cpu] = &bucket.Slots{Table: r.table}
	}
	slots := r.cpus[cpu]
	now := bucket.Clock{Exact: bucket.AtNanoseconds(clock.Exact), Jiffies: clock.Jiffies, Jiffy: r.jiffy}
	r.delay, r.delayed = 0, nil
	packet, reason := refParse(frame, r.look)
	packet.Interface, packet.Direction = r.place.Interface, r.place.Direction
	if reason != "" {
		r.count.Unparsed[reason]++
	}
	if !packet.Source.IsValid() {
		return xdpPass
	}
	size := uint64(len(frame))
	c := policy.Classify(r.policies, r.listsAt(clock.Coarse), packet)
	if c.List != policy.ListNone {
		add(r.count.Listed, string(c.List), size)
		if c.List == policy.ListAllow {
			return xdpPass
		}
		return xdpDrop
	}
	if hidden := inMode(c.Dropping(), policy.ModeEnforce); len(hidden) > 0 {
		r.counted(hidden[0], policy.VerdictDrop, size)
		return xdpDrop
	}
	if !r.enforce(slots, inMode(c.Charged(), policy.ModeEnforce), packet, size, now) {
		return xdpDrop
	}
	delay := r.delay // nobody waits for a policy in shadow
	defer func() { r.delay = delay }()
	for _, p := range inMode(c.Dropping(), policy.ModeShadow) {
		r.counted(p, policy.VerdictShadowDrop, size)
	}
	for _, p := range inMode(c.Charged(), policy.ModeShadow) {
		verdict := policy.VerdictPass
		if !r.charge(slots, p, packet, size, now) {
			verdict = policy.VerdictShadowDrop
		}
		r.counted(p, verdict, size)
	}
	return xdpPass
}

// listsAt are the lists with the bans that are in force.
func (r *reference) listsAt(coarse uint64) policy.Lists {
	lists := r.lists
	for prefix, until := range r.bans {
		if coarse < until {
			lists.Bans = append(lists.Bans, prefix)
		}
	}
	return lists
}

func inMode(policies []policy.Policy, mode policy.Mode) []policy.Policy {
	return slices.DeleteFunc(slices.Clone(policies), func(p policy.Policy) bool { return p.Mode != mode })
}

// enforce charges all policies or none.
func (r *reference) enforce(slots *bucket.Slots, policies []policy.Policy, packet policy.Packet, size uint64, now bucket.Clock) bool {
	for i, p := range policies {
		if r.charge(slots, p, packet, size, now) {
			continue
		}
		r.counted(p, policy.VerdictDrop, size)
		for _, earlier := range policies[:i] {
			rule := r.rules[earlier.Name]
			if earlier.Action == policy.ActionPace {
				r.table.Refund(rule.hash(earlier, packet), &rule.rate.Limit, tokens(earlier, size))
				if slices.Contains(r.delayed, earlier.Name) {
					r.count.Paced[earlier.Name]--
				}
				continue
			}
			slots.Refund(rule.hash(earlier, packet), &rule.rate, tokens(earlier, size))
		}
		return false
	}
	for _, p := range policies {
		r.counted(p, policy.VerdictPass, size)
	}
	return true
}

func (r *reference) charge(slots *bucket.Slots, p policy.Policy, packet policy.Packet, size uint64, now bucket.Clock) bool {
	r.charges++
	rule := r.rules[p.Name]
	hash, evict := rule.hash(p, packet), p.OnPressure == policy.PressurePass
	var took bucket.Taken
	if p.Action == policy.ActionPace {
		took = r.pace(p, hash, tokens(p, size), now)
	} else if p.NewSources == nil {
		took = slots.Take(hash, &rule.rate, now, tokens(p, size), evict)
	} else {
		var known bool
		took, known = slots.TakeNew(hash, &rule.rate, rule.strangersHash, &rule.strangers, now, tokens(p, size), evict)
		if !known {
			r.count.Strangers[p.Name]++
		}
	}
	if took&bucket.Pressure != 0 {
		r.count.Pressure++
	}
	return took&bucket.Admitted != 0
}

// pace charges a policy that delays what is over its limit, by two seconds at most.
func (r *reference) pace(p policy.Policy, hash, tokens uint64, now bucket.Clock) bucket.Taken {
	limit := r.rules[p.Name].rate.Limit
	if tokens > limit.Burst {
		return 0
	}
	c := bucket.Charge{
		Cost: limit.Cost(tokens), Tokens: uint32(tokens), Ahead: bucket.AtNanoseconds(uint64(2 * time.Second)),
		EvictDebt: p.OnPressure == policy.PressurePass,
	}
	took := r.table.Charge(hash, &limit, now.Exact, &c)
	if took&bucket.Admitted != 0 && c.Wait > 0 {
		r.delay, r.delayed = max(r.delay, c.Wait), append(r.delayed, p.Name)
		r.count.Paced[p.Name]++
	}
	return took
}

func (r *rule) hash(p policy.Policy, packet policy.Packet) uint64 {
	switch p.Scope {
	case policy.ScopePerEndpoint:
		return r.key.HashEndpoint(packet.Protocol, packet.Port)
	case policy.ScopeGlobal:
		return r.key.HashGlobal()
	}
	return r.key.Hash(r.mask, packet.Source)
}

func tokens(p policy.Policy, size uint64) uint64 {
	if p.Unit == policy.UnitBytes {
		return size
	}
	return 1
}

func (r *reference) counted(p policy.Policy, verdict policy.Verdict, size uint64) {
	add(r.count.Policies[p.Name], verdict, size)
}

func add[K comparable](counts map[K]loader.Count, key K, size uint64) {
	n := counts[key]
	counts[key] = loader.Count{Packets: n.Packets + 1, Bytes: n.Bytes + size}
}

package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// MaxPolicies is how many policies a program can have.
const MaxPolicies = 64

// ErrPolicy says that a policy is not one that the kernel can enforce.
var ErrPolicy = errors.New("policy can't be loaded")

// The values of the enums in types.h.
const (
	unitBytes        = 1
	modeShadow       = 1
	onPressureDrop   = 1
	paces            = 1
	reconciled       = 1
	scopePerEndpoint = 1
	scopeGlobal      = 2
)

// ruleset is what one program enforces.
type ruleset struct {
	policies    []policy.Policy // in the order of evaluation
	allow, deny []netip.Prefix
}

// machine is what a program has to know of the machine.
type machine struct {
	cpus int
	tick time.Duration // of the coarse clock: what a jiffy takes
}

func thisMachine() (machine, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return machine{}, fmt.Errorf("count the CPUs: %w", err)
	}
	var tick unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick); err != nil {
		return machine{}, fmt.Errorf("read the coarse clock's resolution: %w", err)
	}
	return machine{cpus: cpus, tick: time.Duration(tick.Nano())}, nil
}

// constants are the load-time constants that make a program out of the object.
type constants struct {
	policies [MaxPolicies]xdpPolicy
	enforce  uint32 // the first so many enforce, the others are in shadow
	count    uint32
	paces    bool // one of them does
	shared   bool // one of them is reconciled with other nodes

	// Read back from a program alone; what goes into it is in classes.
	few        [fewSources]xdpFewSource
	few4, few6 uint32 // where those of each family end
	sourceless uint64
}

// encode turns policies, in the order in which they are to be evaluated, into constants. slots has
// the counter slot of each by name.
func (m machine) encode(h Hook, policies []policy.Policy, secret bucket.Secret, slots map[string]uint8) (*constants, error) {
	if len(policies) > MaxPolicies {
		return nil, fmt.Errorf("%w: %d policies, want %d at most", ErrPolicy, len(policies), MaxPolicies)
	}
	c := &constants{count: uint32(len(policies))}
	for i, p := range policies {
		if p.Mode != policy.ModeShadow {
			if int(c.enforce) != i {
				return nil, fmt.Errorf("%w: %s enforces, and comes after one in shadow (see policy.KernelPolicies)", ErrPolicy, p.Name)
			}
			c.enforce++
		}
		if p.Layer != policy.LayerKernel {
			return nil, fmt.Errorf("%w: %s: want layer kernel", ErrPolicy, p.Name)
		}
		encoded, err := m.encodePolicy(h, &p, secret)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPolicy, p.Name, err)
		}
		encoded.Slot = slots[p.Name]
		encoded.Replaces = replaced(policies, i)
		c.policies[i] = *encoded
		c.paces = c.paces || encoded.Pace == paces
		c.shared = c.shared || encoded.Reconciled == reconciled
	}
	return c, nil
}

func (m machine) encodePolicy(h Hook, p *policy.Policy, secret bucket.Secret) (*xdpPolicy, error) {
	if p.Action == policy.ActionPace && h != HookTCEgress {
		return nil, fmt.Errorf("action pace is for %s, not for %s", HookTCEgress, h.orXDP())
	}
	if p.Consistency != "" && p.Consistency != policy.ConsistencyLocal && p.Consistency != policy.ConsistencyReconciled {
		return nil, fmt.Errorf("a packet can't wait for a store: consistency %s is for requests (set consistency: reconciled, or local)", p.Consistency)
	}
	rate, err := m.rate(p.Limit, p.Window, p.Burst)
	if err != nil {
		return nil, err
	}
	scope, ok := map[policy.Scope]uint8{policy.ScopePerIP: 0, policy.ScopePerEndpoint: scopePerEndpoint, policy.ScopeGlobal: scopeGlobal}[p.Scope]
	if !ok {
		return nil, fmt.Errorf("the kernel can't see scope %s", p.Scope)
	}
	key := deriveKey(secret, h, p.Scope, p.Name)
	mask := bucket.NewMask(p.IPv4Prefix, p.IPv6Prefix)
	encoded := &xdpPolicy{
		Key:        xdpHashKey{Offset: key.Offset, Multiplier: key.Multiplier},
		Rate:       encodeRate(rate),
		Ipv6Mask:   mask.IPv6,
		Ipv4Mask:   mask.IPv4,
		Unit:       flag(p.Unit == policy.UnitBytes, unitBytes),
		Mode:       flag(p.Mode == policy.ModeShadow, modeShadow),
		OnPressure: flag(p.OnPressure == policy.PressureDrop, onPressureDrop),
		Scope:      scope,
		Pace:       flag(p.Action == policy.ActionPace, paces),
		Reconciled: flag(p.Consistency == policy.ConsistencyReconciled, reconciled),
	}
	if n := p.NewSources; n != nil {
		rate, err := m.rate(n.Limit, n.Window, n.Limit)
		if err != nil {
			return nil, fmt.Errorf("new_sources: %w", err)
		}
		key := deriveKey(secret, h, "new_sources", p.Name)
		encoded.NewSources, encoded.NewSourcesHash = encodeRate(rate), key.HashGlobal()
	}
	return encoded, nil
}

func (m machine) rate(limit uint64, window time.Duration, burst uint64) (bucket.Rate, error) {
	l, err := bucket.NewLimit(limit, window, burst)
	if err != nil {
		return bucket.Rate{}, err
	}
	return bucket.NewRate(l, m.cpus, m.tick), nil
}

// deriveKey gives what comes in and what goes out buckets of their own.
func deriveKey(secret bucket.Secret, h Hook, scope policy.Scope, name string) bucket.HashKey {
	if h == HookTCEgress {
		scope += " egress"
	}
	return bucket.DeriveKey(secret, string(scope), name)
}

func encodeRate(r bucket.Rate) xdpRate {
	return xdpRate{
		Limit: xdpBucketLimit{TokenTime: r.Limit.TokenTime, Depth: uint64(r.Limit.Depth), Burst: r.Limit.Burst, FracBits: r.Limit.FracBits},
		Lease: r.Lease, Id: r.ID, Coarse: r.Coarse,
	}
}

// replaced has the ranks that the policy of one rank overrides. What is in shadow must not change what
// is enforced.
func replaced(policies []policy.Policy, rank int) (mask uint64) {
	p := &policies[rank]
	for i := range policies {
		other := &policies[i]
		if slices.Contains(p.Replaces, other.Name) && (p.Mode != policy.ModeShadow || other.Mode == policy.ModeShadow) {
			mask |= 1 << i
		}
	}
	return mask
}

func flag(is bool, value uint8) uint8 {
	if is {
		return value
	}
	return 0
}

// LoadedPolicy is a policy as a program in the kernel has it.
type LoadedPolicy struct {
	policy.Policy
	Slot uint8          // the index of its counters
	rate bucket.Rate    // what the kernel computes with
	key  bucket.HashKey // secret: never print it
	mask bucket.Mask
}

// decode puts a policy's constants beside what its author wrote.
func decode(encoded *xdpPolicy, p policy.Policy) LoadedPolicy {
	return LoadedPolicy{
		Policy: p,
		Slot:   encoded.Slot,
		rate:   decodeRate(encoded.Rate),
		key:    bucket.HashKey{Offset: encoded.Key.Offset, Multiplier: encoded.Key.Multiplier},
		mask:   bucket.Mask{IPv4: encoded.Ipv4Mask, IPv6: encoded.Ipv6Mask},
	}
}

func decodeRate(r xdpRate) bucket.Rate {
	return bucket.Rate{
		Limit: bucket.Limit{TokenTime: r.Limit.TokenTime, Depth: bucket.Ticks(r.Limit.Depth), Burst: r.Limit.Burst, FracBits: r.Limit.FracBits},
		Lease: r.Lease, ID: r.Id, Coarse: r.Coarse,
	}
}

// assignSlots gives every policy a counter slot: the one that it had, else one that no policy of the
// running program counts in, as that program goes on counting until the swap.
func assignSlots(policies []policy.Policy, running []LoadedPolicy) (slots map[string]uint8, fresh []uint8) {
	slots = make(map[string]uint8, len(policies))
	had := make(map[string]uint8, len(running))
	var taken, live [MaxPolicies]bool
	for _, r := range running {
		had[r.Name] = r.Slot
		live[r.Slot] = true
	}
	for _, p := range policies {
		if slot, ok := had[p.Name]; ok {
			slots[p.Name] = slot
			taken[slot] = true
		}
	}
	for _, p := range policies {
		if _, ok := slots[p.Name]; ok {
			continue
		}
		slot := firstFree(&taken, &live)
		taken[slot] = true
		slots[p.Name] = slot
		fresh = append(fresh, slot)
	}
	return slots, fresh
}

// firstFree prefers a slot that nobody counts in; with 64 policies all replaced there is none.
func firstFree(taken, live *[MaxPolicies]bool) uint8 {
	for i := range taken {
		if !taken[i] && !live[i] {
			return uint8(i)
		}
	}
	for i := range taken {
		if !taken[i] {
			return uint8(i)
		}
	}
	return 0 // more than MaxPolicies, which encode refuses
}

package loader

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// MaxPolicies is how many policies a program can have.
const MaxPolicies = 64

// ErrPolicy says that a policy is not one that the kernel can enforce.
var ErrPolicy = errors.New("policy can't be loaded")

// The values of the enums in types.h.
const (
	unitBytes      = 1
	modeShadow     = 1
	onPressureDrop = 1
)

// constants are the load-time constants that make a program out of the object.
type constants struct {
	policies [MaxPolicies]xdpPolicy
	labels   [MaxPolicies]xdpPolicyLabel
	enforce  uint32 // the first so many enforce, the others are in shadow
	count    uint32
}

// encode turns policies, in the order in which they are to be evaluated, into constants. slots has
// the counter slot of each by name.
func encode(policies []policy.Policy, secret bucket.Secret, slots map[string]uint8) (*constants, error) {
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
		limit, err := bucket.NewLimit(p.Limit, p.Window, p.Burst)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPolicy, p.Name, err)
		}
		if p.Layer != policy.LayerKernel || p.Scope != policy.ScopePerIP || len(p.Name) >= len(c.labels[i].Name) {
			return nil, fmt.Errorf("%w: %s: want layer kernel, scope per_ip and a name of 63 bytes at most", ErrPolicy, p.Name)
		}
		key := bucket.DeriveKey(secret, string(p.Scope), p.Name)
		mask := bucket.NewMask(p.IPv4Prefix, p.IPv6Prefix)
		c.policies[i] = xdpPolicy{
			Key:        xdpHashKey{Offset: key.Offset, Multiplier: key.Multiplier},
			Limit:      xdpBucketLimit{TokenTime: limit.TokenTime, Depth: uint64(limit.Depth), Burst: limit.Burst, FracBits: limit.FracBits},
			Ipv6Mask:   mask.IPv6,
			Ipv4Mask:   mask.IPv4,
			Slot:       slots[p.Name],
			Unit:       flag(p.Unit == policy.UnitBytes, unitBytes),
			Mode:       flag(p.Mode == policy.ModeShadow, modeShadow),
			OnPressure: flag(p.OnPressure == policy.PressureDrop, onPressureDrop),
		}
		c.labels[i] = encodeLabel(p)
	}
	return c, nil
}

func flag(is bool, value uint8) uint8 {
	if is {
		return value
	}
	return 0
}

func encodeLabel(p policy.Policy) xdpPolicyLabel {
	l := xdpPolicyLabel{
		Limit: p.Limit, WindowNs: uint64(p.Window), Priority: int64(p.Priority),
		Ipv4Prefix: p.IPv4Prefix, Ipv6Prefix: p.IPv6Prefix,
	}
	for i := range len(p.Name) {
		l.Name[i] = int8(p.Name[i])
	}
	return l
}

// LoadedPolicy is a policy as a program in the kernel has it.
type LoadedPolicy struct {
	policy.Policy
	Slot  uint8          // the index of its counters
	limit bucket.Limit   // what the kernel computes with
	key   bucket.HashKey // secret: never print it
	mask  bucket.Mask
}

// decode is the inverse of encode.
func decode(p *xdpPolicy, l *xdpPolicyLabel) LoadedPolicy {
	name := make([]byte, 0, len(l.Name))
	for _, c := range l.Name {
		if c == 0 {
			break
		}
		name = append(name, byte(c))
	}
	out := LoadedPolicy{
		Policy: policy.Policy{
			Name: string(name), Scope: policy.ScopePerIP, Layer: policy.LayerKernel,
			Limit: l.Limit, Window: time.Duration(l.WindowNs), Burst: p.Limit.Burst,
			Unit: policy.UnitRequests, Mode: policy.ModeEnforce, OnPressure: policy.PressurePass,
			Algorithm: policy.AlgorithmTokenBucket, Consistency: policy.ConsistencyLocal,
			OnStoreFailure: policy.StoreFailureLocal, Priority: int(l.Priority),
			OnFragment: policy.FragmentPass, Action: policy.ActionDrop,
			IPv4Prefix: l.Ipv4Prefix, IPv6Prefix: l.Ipv6Prefix,
		},
		Slot:  p.Slot,
		limit: bucket.Limit{TokenTime: p.Limit.TokenTime, Depth: bucket.Ticks(p.Limit.Depth), Burst: p.Limit.Burst, FracBits: p.Limit.FracBits},
		key:   bucket.HashKey{Offset: p.Key.Offset, Multiplier: p.Key.Multiplier},
		mask:  bucket.Mask{IPv4: p.Ipv4Mask, IPv6: p.Ipv6Mask},
	}
	if p.Unit == unitBytes {
		out.Unit = policy.UnitBytes
	}
	if p.Mode == modeShadow {
		out.Mode = policy.ModeShadow
	}
	if p.OnPressure == onPressureDrop {
		out.OnPressure = policy.PressureDrop
	}
	return out
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

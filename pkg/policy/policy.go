// Package policy is the domain core of weir: what a rate limit is, which
// values make sense, which of them this version enforces, in which order
// policies are evaluated, and which of them apply to a packet or a request.
//
// The package holds values and rules only. It reads no file, no clock and no
// kernel, and it imports nothing but the standard library, so that every other
// package can share its words.
package policy

import "time"

// Policy is one rate limit and the traffic that it applies to.
//
// A Policy is a plain value. The zero value is not valid: a caller fills in
// what it knows, calls [Policy.WithDefaults] for the rest, and then
// [ValidateSet]. The slices and maps are shared by copies and must be treated
// as read-only.
type Policy struct {
	// Name identifies the policy in every listing, metric and pin: 1 to 63
	// bytes of a-z, 0-9, "_" and "-", unique in a set.
	Name string
	// Scope says what gets a bucket of its own: an address, a user, ...
	Scope Scope
	// Limit is the number of tokens per Window, 1 to [MaxTokens].
	Limit uint64
	// Window is the time in which Limit tokens flow in. It must be positive,
	// and Limit/Window must lie between 1 per day and the fastest rate of the
	// unit ([MaxRequestRate], [MaxByteRate]). Of AlgorithmConcurrency it is the life
	// of a lease, [MinLease] to [MaxLease].
	Window time.Duration
	// Burst is the depth of a bucket in tokens, 1 to [MaxTokens], and at least
	// [MinByteBurst] for bytes. Zero before WithDefaults means Limit. Of
	// AlgorithmLeakyBucket it is the length of the queue, at most [MaxQueueDelay];
	// algorithms that count have none but Limit.
	Burst uint64
	// Unit says what one token pays for.
	Unit Unit
	// Algorithm turns limit, window and burst into decisions.
	Algorithm Algorithm
	// Priority orders evaluation: the higher value is evaluated first. Zero
	// before WithDefaults means the default of the scope.
	Priority int
	// Layer says who enforces the policy.
	Layer Layer
	// Mode says what a verdict does to the traffic.
	Mode Mode
	// Consistency says how nodes share the count. Empty before
	// [Policy.WithStore] means the default of layer and algorithm.
	Consistency Consistency
	// OnStoreFailure says what holds while the shared store is away. Empty
	// before [Policy.WithStore] means the store's default.
	OnStoreFailure StoreFailure
	// OnPressure is the fate of a source for which the bucket table has no
	// room left.
	OnPressure Pressure
	// OnFragment is the fate of packets whose port cannot be read. Only a
	// policy that asks for the port, see [Policy.NeedsPort], may set it.
	OnFragment Fragment
	// Action is what becomes of a packet that is over the limit.
	Action Action
	// NewSources caps how many sources that were never seen before may claim a
	// bucket. Nil means no cap.
	NewSources *NewSources
	// IPv4Prefix and IPv6Prefix are the lengths in bits, 1 to 32 and 1 to 128,
	// of the source prefix that shares one bucket. Scope per_ip.
	IPv4Prefix, IPv6Prefix uint8
	// Key is the template of the bucket's key, see [ParseTemplate]; only scope
	// custom has one.
	Key string
	// Replaces names broader policies that this one overrides where both
	// match. A policy in shadow overrides only those in shadow.
	Replaces []string
	// Headers are added to the answer of a layer 7 decision, at most [MaxHeaders].
	Headers map[string]string
	// Match narrows the policy to some of the traffic. The zero Match matches
	// all of it.
	Match Match
}

// NeedsPort reports whether the kernel has to know the port of a packet to
// apply the policy.
func (p Policy) NeedsPort() bool { return len(p.Match.Ports) > 0 || p.Scope == ScopePerEndpoint }

// NewSources caps the first-seen sources that a policy admits: at most Limit
// (1 to [MaxTokens]) per Window (positive).
type NewSources struct {
	Limit  uint64
	Window time.Duration
}

package policy

import (
	"fmt"
	"slices"
)

// Store is what policies have to know of the store that nodes share. The zero
// value says that there is none, and that every node is for itself.
type Store struct {
	// Shared says that there is one.
	Shared bool
	// OnFailure is what holds while it is away, of policies that do not say it
	// themselves; empty: StoreFailureLocal.
	OnFailure StoreFailure
}

// WithStore returns the policy with Consistency and OnStoreFailure filled in,
// where they are empty. [Policy.WithDefaults] leaves them alone: their defaults
// depend on where the policy is put in force, and one that is sent from a file
// without a store to a node that has one must not be local for it.
func (p Policy) WithStore(s Store) Policy {
	if p.Consistency == "" {
		p.Consistency = ConsistencyLocal
		if s.Shared {
			p.Consistency = p.consistencies()[0]
		}
	}
	if p.OnStoreFailure == "" {
		p.OnStoreFailure = StoreFailureLocal
		if s.OnFailure != "" && slices.Contains(p.storeFailures(), s.OnFailure) {
			p.OnStoreFailure = s.OnFailure
		}
	}
	return p
}

// WithStore returns the document with [Policy.WithStore] of all policies, which
// are copied.
func (d Document) WithStore(s Store) Document {
	d.Policies = slices.Clone(d.Policies)
	for i, p := range d.Policies {
		d.Policies[i] = p.WithStore(s)
	}
	return d
}

// ValidateFor returns what Validate does, and what policies ask of a store that
// is not there. Call it before WithStore, whose defaults are never a fault:
// what it tells of is then what somebody wrote.
func (d Document) ValidateFor(s Store) []Fault {
	fs := faults(d.Validate())
	if s.Shared || len(d.Policies) > MaxPolicies {
		return fs
	}
	var more faults
	for i, p := range d.Policies {
		if p.Mode != ModeOff {
			more.storeless(fmt.Sprintf("policies[%d].", i), p)
		}
	}
	fs.addNew(more)
	return fs
}

// storeless refuses what a policy asks of a store. What weir understands but
// would ignore is worse than what it refuses.
func (fs *faults) storeless(prefix string, p Policy) {
	if p.Consistency != "" && p.Consistency != ConsistencyLocal {
		fs.add(prefix+"consistency", fmt.Sprintf("consistency %s counts in Redis, and there is none", p.Consistency),
			`add "redis: {url: ...}" to the configuration of weir run, or set "consistency: local"`, prefix+"mode")
	}
	if p.OnStoreFailure != "" && p.OnStoreFailure != StoreFailureLocal {
		fs.add(prefix+"on_store_failure", fmt.Sprintf("on_store_failure %s is for when Redis is away, and there is none", p.OnStoreFailure),
			`add "redis: {url: ...}" to the configuration of weir run, or remove on_store_failure`, prefix+"mode")
	}
}

// consistencies returns the ways in which nodes can share the count of such a
// policy, first the one that is the default beside a store. An algorithm that
// weir does not know is its owner's, and counts where it runs.
func (p Policy) consistencies() []Consistency {
	switch {
	case p.Layer == LayerKernel && p.Algorithm == AlgorithmTokenBucket:
		return []Consistency{ConsistencyReconciled, ConsistencyLocal}
	case p.Layer == LayerKernel:
		return []Consistency{ConsistencyLocal}
	}
	switch p.Algorithm {
	case AlgorithmTokenBucket, AlgorithmSlidingWindow, AlgorithmFixedWindow:
		return []Consistency{ConsistencyLeased, ConsistencyStrict, ConsistencyLocal}
	case AlgorithmLeakyBucket, AlgorithmConcurrency:
		return []Consistency{ConsistencyStrict, ConsistencyLocal}
	}
	return []Consistency{ConsistencyLocal}
}

// storeFailures returns what can hold for such a policy while the store is
// away. The kernel counts in its own buckets at all times, and so it goes on;
// one that let nothing pass would drop the packets to and from the store too.
func (p Policy) storeFailures() []StoreFailure {
	local := p.Consistency == ConsistencyLocal || p.Consistency == "" && p.consistencies()[0] == ConsistencyLocal
	switch {
	case local:
		return []StoreFailure{StoreFailureLocal}
	case p.Layer == LayerKernel:
		return []StoreFailure{StoreFailureLocal, StoreFailureShare}
	}
	return StoreFailures()
}

// checkStore judges consistency and on_store_failure beside layer and
// algorithm.
func (p Policy) checkStore(fs *faults) {
	if can := p.consistencies(); p.Consistency != "" && !slices.Contains(can, p.Consistency) {
		fs.add("consistency", p.inconsistent(), "use one of "+list(can), "layer", "scope", "algorithm")
	}
	if p.OnStoreFailure == "" || slices.Contains(p.storeFailures(), p.OnStoreFailure) {
		return
	}
	problem := "consistency local asks no store that could fail"
	mend := `remove on_store_failure or set "on_store_failure: local"`
	if p.Layer == LayerKernel && p.Consistency != ConsistencyLocal {
		mend = "use one of " + list(p.storeFailures())
		problem = "layer kernel counts in its own buckets while the store is away, and has no " + string(p.OnStoreFailure)
	}
	fs.add("on_store_failure", problem, mend, "layer", "scope", "consistency")
}

// inconsistent says why nodes can't share the count as the policy wants it.
func (p Policy) inconsistent() string {
	switch {
	case p.Layer == LayerKernel && p.Consistency != ConsistencyReconciled:
		return fmt.Sprintf("layer kernel has no %s: a packet cannot wait for the store", p.Consistency)
	case p.Layer == LayerL7 && p.Consistency == ConsistencyReconciled:
		return "layer l7 has no reconciled: that is for packets, which cannot wait for the store"
	case p.Consistency == ConsistencyLeased:
		return fmt.Sprintf("algorithm %s has nothing to lease ahead: each request gets a place of its own", p.Algorithm)
	}
	return fmt.Sprintf("algorithm %s has no %s", p.Algorithm, p.Consistency)
}

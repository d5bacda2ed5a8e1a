package loader

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// StandaloneOptions says what to load. Policies may be none: every packet passes.
type StandaloneOptions struct {
	// Hook is what the program is loaded for; the zero value is [HookXDP].
	Hook Hook
	// Policies are enforced in this order: see policy.KernelPolicies. None is allowed: every packet passes.
	Policies []policy.Policy
	// Allow and Deny are source prefixes that are judged before any policy; who is in both is allowed.
	Allow, Deny []netip.Prefix
	// TableEntries is a power of two, 4 or more.
	TableEntries int
	// Secret keys the hash. The zero value will do, and makes runs repeatable: no stranger's packet
	// comes here.
	Secret bucket.Secret
	// Objects replaces the built-in object, for tests that load a changed one: see [ObjectsOf].
	Objects *ebpf.CollectionSpec
}

// Standalone is the program as [StateDir.Attach] loads it, but attached to nothing and pinned
// nowhere: for BPF_PROG_TEST_RUN. It is gone when closed.
type Standalone struct {
	shared   *shared
	built    *built
	buckets  *Buckets
	policies []LoadedPolicy
}

// LoadStandalone loads the built-in program with a table of its own.
func LoadStandalone(o StandaloneOptions) (_ *Standalone, err error) {
	var undo undoStack
	defer func() { undo.runIf(err) }()

	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise RLIMIT_MEMLOCK: %w (needs CAP_SYS_RESOURCE)", err)
	}
	spec := o.Objects
	if spec == nil {
		if spec, err = ObjectsOf(o.Hook); err != nil {
			return nil, err
		}
	}
	common, err := newShared(spec, o.TableEntries, o.Secret)
	if err != nil {
		return nil, err
	}
	undo.push(func() error { common.close(); return nil })
	s := &Standalone{shared: common}
	if s.buckets, err = mapBuckets(common.table(), common.maps[xdpMapTags], common.maps[xdpMapSlots]); err != nil {
		return nil, err
	}
	undo.push(s.buckets.Close)
	plan, _, err := newPlan(o.Hook, ruleset{o.Policies, o.Allow, o.Deny}, o.Secret, nil)
	if err != nil {
		return nil, err
	}
	if s.built, err = load(spec, plan, common, &current{}); err != nil {
		return nil, err
	}
	undo.push(func() error { s.built.close(); return nil })
	loaded, err := readLoaded(o.Hook, s.built.maps[constantsSection], s.built.maps[documentMap])
	if err != nil {
		return nil, err
	}
	s.policies = loaded.policies
	return s, nil
}

// Close unloads the program and unmaps the table; nothing of s may be used any more.
func (s *Standalone) Close() error {
	s.built.close()
	s.shared.close()
	return s.buckets.Close()
}

// Program is the loaded program. It belongs to s: do not close it.
func (s *Standalone) Program() *ebpf.Program { return s.built.program }

// Table is the program's bucket table, mapped. It belongs to s: do not close it.
func (s *Standalone) Table() *Buckets { return s.buckets }

// Policies are the policies as the program has them, in the order of evaluation.
func (s *Standalone) Policies() []LoadedPolicy { return s.policies }

// Counters reads the program's counters, summed over the CPUs.
func (s *Standalone) Counters() (Counters, error) {
	c := newCounters()
	for _, p := range s.policies {
		if err := c.addPolicy(s.built.maps[xdpMapPolicyStats], &p); err != nil {
			return c, fmt.Errorf("read the counters of policy %s: %w", p.Name, explain(err))
		}
	}
	if err := sumInterfaceCounters(s.built.maps[xdpMapInterfaceStats], &c); err != nil {
		return c, fmt.Errorf("read the counters of the interface: %w", explain(err))
	}
	return c, nil
}

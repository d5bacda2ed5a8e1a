package loader

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// StandaloneOptions says what to load. Policies may be none: every packet passes.
type StandaloneOptions struct {
	// Policies are enforced in this order: see policy.KernelPolicies.
	Policies []policy.Policy
	// Hook chooses the object; "" is XDP.
	Hook Hook
	// TableEntries is a power of two, 4 or more.
	TableEntries int
	// Secret keys the hash. The zero value will do, and makes runs repeatable: no stranger's packet
	// comes here.
	Secret bucket.Secret
}

// Standalone is the program as [StateDir.Attach] loads it, but attached to nothing and pinned
// nowhere: for BPF_PROG_TEST_RUN. It is gone when closed.
type Standalone struct {
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
	spec, err := ObjectsOf(o.Hook)
	if err != nil {
		return nil, err
	}
	spec.Maps[xdpMapTable].MaxEntries = uint32(o.TableEntries / bucket.SetWays)
	table, err := ebpf.NewMap(spec.Maps[xdpMapTable])
	if err != nil {
		return nil, fmt.Errorf("create a table of %d entries: %w", o.TableEntries, explain(err))
	}
	defer table.Close() // the program and the mapping hold it
	s := &Standalone{}
	if s.buckets, err = mapBuckets(table); err != nil {
		return nil, err
	}
	undo.push(s.buckets.Close)
	slots, _ := assignSlots(o.Policies, nil)
	c, err := encode(o.Policies, o.Secret, slots)
	if err != nil {
		return nil, err
	}
	if s.built, err = load(spec, c, table, &current{}); err != nil {
		return nil, err
	}
	undo.push(func() error { s.built.close(); return nil })
	s.policies, err = readPolicies(o.Hook, s.built.maps[".rodata"])
	return s, err
}

// Close unloads the program and unmaps the table; nothing of s may be used any more.
func (s *Standalone) Close() error {
	s.built.close()
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
	c := Counters{Policies: map[string]map[policy.Verdict]Count{}, Unparsed: map[string]uint64{}}
	for _, p := range s.policies {
		n, err := readPolicyCounters(s.built.maps[xdpMapPolicyStats], p.Slot)
		if err != nil {
			return c, fmt.Errorf("read the counters of policy %s: %w", p.Name, explain(err))
		}
		c.Policies[p.Name] = n
	}
	if err := sumInterfaceCounters(s.built.maps[xdpMapInterfaceStats], &c); err != nil {
		return c, fmt.Errorf("read the counters of the interface: %w", explain(err))
	}
	return c, nil
}

package metrics

import "github.com/weir-limiter/weir/pkg/policy"

// Source is what a [Collector] reads. Its methods may be called by several goroutines at once.
type Source interface {
	// Kernel reads the counters of every interface that is enforced.
	Kernel() (Kernel, error)
	// Table reads how full the bucket table is. It may be expensive: see [Collector].
	Table() (Table, error)
}

// Kernel is what the kernel counted until the moment at which it was read.
type Kernel struct {
	// Interfaces have different names.
	Interfaces []Interface
	// Policies is how many policies are in force on one interface or more.
	Policies int
}

// Interface has the counters of one interface.
type Interface struct {
	Name     string
	Policies []Policy
	// Unparsed has the packets that passed without being charged, by reason.
	Unparsed map[string]uint64
	// Pressure counts packets that found every entry of their set of the table owing tokens.
	Pressure uint64
	// Contended counts packets that were denied because other CPUs won every compare-and-swap.
	Contended uint64
}

// Policy has the traffic that one policy judged on one interface.
type Policy struct {
	Name     string
	Verdicts map[policy.Verdict]Count
}

// Count is an amount of traffic.
type Count struct {
	Packets, Bytes uint64
}

// Table says how full the bucket table is, in entries.
type Table struct {
	Capacity int // that there are
	Claimed  int // that a source was given
	Owing    int // of these, the ones whose bucket is not full
}

package bench

import "github.com/weir-limiter/weir/pkg/policy"

// Report is what was measured. Scripts read its JSON: add fields, rename none.
type Report struct {
	Machine Machine `json:"machine"`
	Rounds  int     `json:"rounds"`
	Packets int     `json:"packets_per_round"`
	// Rows is the main table: one CPU, one policy.
	Rows []Row `json:"rows"`
	// Policies is what a packet costs under several policies: one source, within all of them.
	Policies []PolicyRow `json:"policies"`
	// Parallel has one source's packets on two CPUs at the same time. Nil if it was not asked for.
	Parallel []Row `json:"parallel,omitempty"`
	// Memory is nil without an object to compare with.
	Memory *Memory `json:"memory,omitempty"`
}

// Machine is where the figures come from.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"` // that this process may use
	Kernel string `json:"kernel"`
	// JIT tells whether the kernel compiles BPF programs. If not, the figures say little about any other machine.
	JIT bool `json:"jit"`
}

// Row compares the contenders on one kind of traffic.
type Row struct {
	Sources uint64         `json:"sources"`
	Verdict policy.Verdict `json:"verdict"` // of weir
	Bare    Summary        `json:"bare"`
	Weir    Measured       `json:"weir"`
	// LRU and what follows from it is nil without an object to compare with.
	LRU    *Measured `json:"lru,omitempty"`
	Ratio  *float64  `json:"ratio,omitempty"`  // of the medians, weir / LRU
	Target *float64  `json:"target,omitempty"` // what Ratio may be at most; nil: no target
	Met    *bool     `json:"met,omitempty"`
}

// Measured is a distribution with what the program did meanwhile.
type Measured struct {
	Summary
	Verdict policy.Verdict `json:"verdict"`
	Share   float64        `json:"verdict_share"` // of the packets that had this verdict: 0.99 or more
}

// PolicyRow is the cost under so many policies.
type PolicyRow struct {
	Policies int      `json:"policies"`
	Weir     Measured `json:"weir"`
	// Further is what each policy beyond the first adds, in ns; 0 for the first.
	Further float64 `json:"further_policy_ns"`
}

// Memory is what the buckets of so many sources take, in bytes.
type Memory struct {
	Sources int    `json:"sources"`
	Weir    uint64 `json:"weir_bytes"`
	LRU     uint64 `json:"lru_bytes"` // as the kernel accounts for it, all CPUs; 0: it does not say
}

// compare fills what follows from the LRU's figures.
func (r *Row) compare(l Measured, target float64) {
	ratio := r.Weir.Median / l.Median
	r.LRU, r.Ratio = &l, &ratio
	if target > 0 {
		met := ratio <= target
		r.Target, r.Met = &target, &met
	}
}

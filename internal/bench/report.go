package bench

// Report is what was measured. Scripts read its JSON: add fields, rename none.
type Report struct {
	Machine Machine `json:"machine"`
	Rounds  int     `json:"rounds"`
	Packets int     `json:"packets_per_turn"`
	// Rows are the figures of each contender, in the order in which they were measured.
	Rows []Row `json:"rows"`
	// Comparisons are what the rows are for: figures of two contenders or more, taken within a round.
	Comparisons []Comparison `json:"comparisons"`
	// Memory is nil without an object to compare with.
	Memory *Memory `json:"memory,omitempty"`
	// Programs is what the verifier said of the program, with more and more policies.
	Programs []ProgramCost `json:"programs,omitempty"`
	// LeftOut is what could not be measured here, and why.
	LeftOut []LeftOut `json:"left_out,omitempty"`
}

// Void counts the figures that are void: those of contenders that did something else than their row says.
func (r *Report) Void() int {
	n := 0
	for _, row := range r.Rows {
		for _, m := range row.Contenders {
			if m.Void != "" {
				n++
			}
		}
	}
	return n
}

// Machine is where the figures come from.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"` // that this process may use
	Kernel string `json:"kernel"`
	// JIT tells whether the kernel compiles BPF programs. If not, the figures say little about any other machine.
	JIT bool `json:"jit"`
}

// Row is one kind of traffic, and what it cost each contender.
type Row struct {
	Section    string     `json:"section"`
	Traffic    string     `json:"traffic"`
	Contenders []Measured `json:"contenders"`
}

// Measured is one contender on one kind of traffic.
type Measured struct {
	Contender string  `json:"contender"`
	NS        Summary `json:"ns_per_packet"`
	// Packets is how many it processed, by its own count or the receiving interface's.
	Packets uint64 `json:"packets"`
	// Lost is how many frames were sent that it never got.
	Lost uint64 `json:"lost"`
	// Dropped is the share of Packets that it dropped.
	Dropped float64 `json:"dropped_share"`
	// Void tells why the figure does not count; empty: it does.
	Void string `json:"void,omitempty"`
}

// Unit is what a comparison's figure is measured in.
type Unit string

// A difference is in ns per packet, a quotient has no unit.
const (
	UnitNS    Unit = "ns"
	UnitRatio Unit = "ratio"
)

// Comparison is a figure that was computed from the contenders of a row, round by round.
type Comparison struct {
	Section string `json:"section"`
	Traffic string `json:"traffic"`
	What    string `json:"what"`
	Unit    Unit   `json:"unit"`
	Summary
	// AtMost and AtLeast is the target for the median; both nil: there is none.
	AtMost  *float64 `json:"at_most,omitempty"`
	AtLeast *float64 `json:"at_least,omitempty"`
	Met     *bool    `json:"met,omitempty"` // nil without a target, and if void
	// Void tells that a contender's figure does not count, and so not this one; the rest is then zero.
	Void bool `json:"void,omitempty"`
}

// judge holds the median against the target.
func (c *Comparison) judge() {
	if c.Void || c.AtMost == nil && c.AtLeast == nil {
		return
	}
	met := (c.AtMost == nil || c.Median <= *c.AtMost) && (c.AtLeast == nil || c.Median >= *c.AtLeast)
	c.Met = &met
}

// Memory is what the buckets of so many sources take, in bytes.
type Memory struct {
	Sources int    `json:"sources"`
	Weir    uint64 `json:"weir_bytes"`
	LRU     uint64 `json:"lru_bytes"` // as the kernel accounts for it, all CPUs; 0: it does not say
}

// LeftOut is something that was not measured.
type LeftOut struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

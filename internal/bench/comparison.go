package bench

// The contenders' names, in the report and in comparisons.
const (
	nameBare      = "bare drop"
	nameWeir      = "weir"
	nameLRU       = "LRU_PERCPU_HASH"
	nameNftables  = "nftables"
	nameHashlimit = "hashlimit"
)

// comparison is a figure to compute from contenders of one row. It falls away if one of them does not take part.
type comparison struct {
	what    string
	unit    Unit
	of      []string                   // the contenders
	figure  func(ns []float64) float64 // from what each of them took for a packet in one round
	atMost  float64                    // 0: no such target
	atLeast float64
}

// costOver is what weir's packet costs beyond a bare drop's.
func costOver(atMost float64) comparison {
	return comparison{
		what: "weir - bare drop", unit: UnitNS, of: []string{nameWeir, nameBare}, atMost: atMost,
		figure: func(ns []float64) float64 { return ns[0] - ns[1] },
	}
}

// costRatio is a's cost per packet as a part of b's.
func costRatio(a, b string, atMost float64) comparison {
	return comparison{
		what: a + " / " + b, unit: UnitRatio, of: []string{a, b}, atMost: atMost,
		figure: func(ns []float64) float64 { return ns[0] / ns[1] },
	}
}

// speedRatio is how many packets a second a processes for each one of b's.
func speedRatio(a, b string, atLeast float64) comparison {
	return comparison{
		what: a + " / " + b, unit: UnitRatio, of: []string{a, b}, atLeast: atLeast,
		figure: func(ns []float64) float64 { return ns[1] / ns[0] },
	}
}

// compute is nil if a contender of the comparison does not take part.
func (c *comparison) compute(row *Row, samples [][]float64) *Comparison {
	result := &Comparison{Section: row.Section, Traffic: row.Traffic, What: c.what, Unit: c.unit}
	var ns [][]float64
	for _, name := range c.of {
		i := row.find(name)
		if i < 0 {
			return nil
		}
		result.Void = result.Void || row.Contenders[i].Void != ""
		ns = append(ns, samples[i])
	}
	result.AtMost, result.AtLeast = target(c.atMost), target(c.atLeast)
	if !result.Void {
		result.Summary = Summarise(c.rounds(ns))
	}
	result.judge()
	return result
}

func (c *comparison) rounds(ns [][]float64) []float64 {
	figures := make([]float64, len(ns[0]))
	for round := range figures {
		args := make([]float64, len(ns))
		for i := range ns {
			args[i] = ns[i][round]
		}
		figures[round] = c.figure(args)
	}
	return figures
}

func (r *Row) find(contender string) int {
	for i, m := range r.Contenders {
		if m.Contender == contender {
			return i
		}
	}
	return -1
}

func target(value float64) *float64 {
	if value == 0 {
		return nil
	}
	return &value
}

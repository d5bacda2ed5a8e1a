package main

import (
	"fmt"
	"strconv"

	"github.com/weir-limiter/weir/internal/bench"
)

func writeBench(p *page, r *bench.Report) {
	p.printf("%s, %d CPUs, Linux %s, BPF %s\n", r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, jit(r.Machine.JIT))
	if len(r.Rows) > 0 {
		p.printf("median of %d rounds of %s packets each, and the quartiles; a comparison is taken within a round\n",
			r.Rounds, thousands(uint64(r.Packets)))
		writeBenchRows(p, r.Rows)
		writeBenchVoid(p, r.Rows)
	}
	if len(r.Comparisons) > 0 {
		p.printf("\n")
		writeBenchComparisons(p, r.Comparisons)
	}
	if len(r.Programs) > 0 {
		p.printf("\n")
		writeBenchPrograms(p, r.Programs)
	}
	writeBenchNotes(p, r)
}

func jit(on bool) string {
	if on {
		return "compiled (JIT)"
	}
	return "interpreted: these figures say little about a machine that compiles it"
}

// benchHeadings say what the rows of a section are.
var benchHeadings = map[string]string{
	"run":      "a program on a packet in memory, one CPU",
	"policies": "several policies, one CPU",
	"live":     "live frames through a veth pair, one CPU for both ends",
	"cpus":     "one source on two CPUs at once",
	"lookup":   "prefixes and bans, one CPU",
}

// writeBenchRows makes a table of each section, with a line for each contender.
func writeBenchRows(p *page, rows []bench.Row) {
	for len(rows) > 0 {
		section := rows[0].Section
		g := &grid{columns: columns("traffic", "", ">ns/packet", ">quartiles", ">Mpps", ">dropped", ">lost")}
		for len(rows) > 0 && rows[0].Section == section {
			for i, m := range rows[0].Contenders {
				traffic := ""
				if i == 0 {
					traffic = rows[0].Traffic
				}
				g.add(benchCells(traffic, m)...)
			}
			rows = rows[1:]
		}
		p.printf("\n%s: %s\n\n", p.paint(bold, section), benchHeadings[section])
		g.write(p)
	}
}

func benchCells(traffic string, m bench.Measured) []cell {
	cells := []cell{text(traffic), text(m.Contender)}
	if m.Void != "" {
		return append(cells, cell{"void", red})
	}
	return append(cells,
		text(fmt.Sprintf("%.0f", m.NS.Median)),
		cell{fmt.Sprintf("(%.0f-%.0f)", m.NS.LowerQuartile, m.NS.UpperQuartile), faint},
		text(fmt.Sprintf("%.2f", 1e3/m.NS.Median)),
		text(fmt.Sprintf("%.1f %%", 100*m.Dropped)),
		number(m.Lost))
}

// writeBenchVoid tells why a figure does not count.
func writeBenchVoid(p *page, rows []bench.Row) {
	for _, row := range rows {
		for _, m := range row.Contenders {
			if m.Void != "" {
				p.printf("void: %s, %s, %s: %s\n", row.Section, row.Traffic, m.Contender, m.Void)
			}
		}
	}
}

func writeBenchComparisons(p *page, all []bench.Comparison) {
	g := &grid{columns: columns("section", "traffic", "compared", ">median", ">quartiles", ">target", "")}
	for _, c := range all {
		cells := []cell{text(c.Section), text(c.Traffic), text(c.What)}
		if c.Void {
			cells = append(cells, cell{"void", red}, text(""))
		} else {
			cells = append(cells, text(benchFigure(c, c.Median)+benchUnit(c)),
				cell{"(" + benchFigure(c, c.LowerQuartile) + "-" + benchFigure(c, c.UpperQuartile) + ")", faint})
		}
		g.add(append(cells, benchTarget(c)...)...)
	}
	g.write(p)
}

// benchFigure writes enough digits that what is just beyond a target does not look as if it were at it.
func benchFigure(c bench.Comparison, v float64) string {
	if c.Unit == bench.UnitNS {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func benchUnit(c bench.Comparison) string {
	if c.Unit == bench.UnitNS {
		return " ns"
	}
	return ""
}

func benchTarget(c bench.Comparison) []cell {
	var target string
	switch {
	case c.AtMost != nil:
		target = "<= " + strconv.FormatFloat(*c.AtMost, 'f', -1, 64)
	case c.AtLeast != nil:
		target = ">= " + strconv.FormatFloat(*c.AtLeast, 'f', -1, 64)
	default:
		return []cell{{"none", faint}}
	}
	target += benchUnit(c)
	switch {
	case c.Met == nil:
		return []cell{text(target)}
	case *c.Met:
		return []cell{text(target), {"met", green}}
	}
	return []cell{text(target), {"missed", red}}
}

func writeBenchPrograms(p *page, programs []bench.ProgramCost) {
	g := &grid{columns: columns("program", "hook", ">policies", ">instructions", ">verifier walked", "stack depth")}
	for _, c := range programs {
		g.add(text(c.Program), text(c.Hook), text(strconv.Itoa(c.Policies)), number(uint64(c.Instructions)),
			number(uint64(c.Processed)), text(c.Stack))
	}
	g.write(p)
}

func writeBenchNotes(p *page, r *bench.Report) {
	if m := r.Memory; m != nil && m.LRU > 0 {
		p.printf("\nMemory for %s sources: LRU_PERCPU_HASH %s, weir %s.\n",
			thousands(uint64(m.Sources)), memorySize(m.LRU), memorySize(m.Weir))
	}
	if len(r.LeftOut) > 0 {
		p.printf("\n")
	}
	for _, l := range r.LeftOut {
		p.printf("left out: %s: %s\n", l.What, l.Why)
	}
}

package main

import (
	"fmt"
	"strconv"

	"github.com/weir-limiter/weir/internal/bench"
)

func writeBench(p *page, r *bench.Report) {
	p.printf("%s, Linux %s, BPF %s\n", r.Machine.CPU, r.Machine.Kernel, jit(r.Machine.JIT))
	p.printf("ns per packet on one CPU: median of %d rounds of %s packets each, and the quartiles\n\n",
		r.Rounds, thousands(uint64(r.Packets)))
	writeBenchRows(p, r.Rows)
	writeBenchNotes(p, r)
	p.printf("\ncost of further policies: one source, within all of them\n\n")
	writeBenchPolicies(p, r.Policies)
	if len(r.Parallel) > 0 {
		p.printf("\none source on two CPUs at once: ns per packet on each\n\n")
		writeBenchRows(p, r.Parallel)
	}
}

func jit(on bool) string {
	if on {
		return "compiled (JIT)"
	}
	return "interpreted: these figures say little about a machine that compiles it"
}

// writeBenchRows leaves out the columns of what was not measured.
func writeBenchRows(p *page, rows []bench.Row) {
	compared, targets := false, false
	for _, r := range rows {
		compared = compared || r.LRU != nil
		targets = targets || r.Target != nil
	}
	titles := []string{">sources", "verdict", ">bare drop", ">weir"}
	if compared {
		titles = []string{">sources", "verdict", ">bare drop", ">LRU_PERCPU_HASH", ">weir", ">weir/LRU"}
	}
	if targets {
		titles = append(titles, "target")
	}
	g := &grid{columns: columns(titles...)}
	for _, r := range rows {
		cells := []cell{text(bench.Sources(r.Sources)), text(string(r.Verdict)), nanoseconds(r.Bare)}
		if compared {
			cells = append(cells, comparedCell(r), nanoseconds(r.Weir.Summary), text(fmt.Sprintf("%.3f", *r.Ratio)))
		} else {
			cells = append(cells, nanoseconds(r.Weir.Summary))
		}
		if targets {
			cells = append(cells, targetCell(r))
		}
		g.add(cells...)
	}
	g.write(p)
}

// comparedCell marks a figure whose program had another verdict than weir; the notes say why.
func comparedCell(r bench.Row) cell {
	c := nanoseconds(r.LRU.Summary)
	if r.LRU.Verdict != r.Verdict {
		c.text = "* " + c.text
	}
	return c
}

func targetCell(r bench.Row) cell {
	switch {
	case r.Target == nil:
		return cell{"none", faint}
	case *r.Met:
		return cell{fmt.Sprintf("<= %.2f met", *r.Target), green}
	}
	return cell{fmt.Sprintf("<= %.2f missed", *r.Target), red}
}

func nanoseconds(s bench.Summary) cell {
	return text(fmt.Sprintf("%.0f (%.0f-%.0f)", s.Median, s.LowerQuartile, s.UpperQuartile))
}

func writeBenchNotes(p *page, r *bench.Report) {
	p.printf("\nFor more than one source a figure has the packet generator in it, which gives every packet its source.\n")
	forgot := false
	for _, row := range r.Rows {
		forgot = forgot || row.LRU != nil && row.LRU.Verdict != row.Verdict
	}
	if forgot {
		p.printf(`* The limit is 1 packet a day. weir's table is full of debts that it keeps, and drops the newcomers
  (on_pressure: drop); the LRU hash forgets a debt for each of them, and passes all.
`)
	}
	if m := r.Memory; m != nil && m.LRU > 0 {
		p.printf("Memory for %s sources: LRU_PERCPU_HASH %s, weir %s.\n",
			thousands(uint64(m.Sources)), memorySize(m.LRU), memorySize(m.Weir))
	}
	if len(r.Rows) > 0 && r.Rows[0].LRU == nil {
		p.printf("To compare with a conventional bucket: weir bench --compare bpf/bench/lru.bpf.o, a file of weir's source.\n")
	}
}

func writeBenchPolicies(p *page, rows []bench.PolicyRow) {
	g := &grid{columns: columns(">policies", ">weir", ">each further one")}
	for _, r := range rows {
		further := cell{"", faint}
		if r.Policies > 1 {
			further = text(fmt.Sprintf("%.1f", r.Further))
		}
		g.add(text(strconv.Itoa(r.Policies)), nanoseconds(r.Weir.Summary), further)
	}
	g.write(p)
}

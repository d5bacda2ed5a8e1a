package main

import (
	"fmt"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func dumpPolicyStats(e *env, d *loader.StateDir, _ int) error {
	all, err := d.PolicyStats()
	if err != nil {
		return err
	}
	return e.show(map[string]any{"policies": all}, func(p *page) {
		g := grid{columns: columns("AT", "POLICY", ">SLOT", ">CPU", "VERDICT", ">PACKETS", ">BYTES")}
		for _, s := range all {
			for cpu, counts := range s.CPUs {
				for _, verdict := range policy.Verdicts() {
					if n := counts[verdict]; n.Packets > 0 {
						g.add(text(ownerText(s.Owner)), text(s.Policy), text(fmt.Sprint(s.Slot)), text(fmt.Sprint(cpu)),
							text(string(verdict)), number(n.Packets), number(n.Bytes))
					}
				}
				addPart(&g, s, cpu, "of them strangers", s.Strangers[cpu])
				addPart(&g, s, cpu, "of them paced", s.Paced[cpu])
			}
		}
		writeCounts(p, &g)
	})
}

// addPart adds a part of what the verdicts counted.
func addPart(g *grid, s loader.PolicyCPUs, cpu int, what string, packets uint64) {
	if packets > 0 {
		g.add(text(ownerText(s.Owner)), text(s.Policy), text(fmt.Sprint(s.Slot)), text(fmt.Sprint(cpu)), text(what), number(packets), text(""))
	}
}

// writeCounts leaves out what is zero, which on a machine of many CPUs is most.
func writeCounts(p *page, g *grid) {
	if len(g.rows) == 0 {
		p.printf("all counters are 0\n")
		return
	}
	g.write(p)
}

func dumpInterfaceStats(e *env, d *loader.StateDir, _ int) error {
	all, err := d.InterfaceStats()
	if err != nil {
		return err
	}
	return e.show(map[string]any{"attachments": all}, func(p *page) {
		g := grid{columns: columns("AT", ">CPU", "COUNTER", ">PACKETS")}
		for _, s := range all {
			for cpu, n := range s.CPUs {
				addInterfaceCount(&g, ownerText(s.Owner), cpu, n)
			}
		}
		writeCounts(p, &g)
	})
}

func addInterfaceCount(g *grid, at string, cpu int, n loader.InterfaceCount) {
	add := func(counter string, packets uint64) {
		if packets > 0 {
			g.add(text(at), text(fmt.Sprint(cpu)), text(counter), number(packets))
		}
	}
	for _, list := range loader.ListNames() {
		add("listed "+list, n.Listed[list].Packets)
	}
	for _, reason := range loader.UnparsedReasons() {
		add("unparsed "+reason, n.Unparsed[reason])
	}
	add("table_pressure", n.Pressure)
	add("contended", n.Contended)
	add("events_lost", n.EventsLost)
	add("hot_lost", n.HotLost)
}

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func writeAttachment(p *page, a *loader.Attachment) {
	p.printf("%s  %s, %s\n", p.paint(bold, place(a)), a.Hook, attachmentState(p, a))
	about := fields("  ")
	about.field("program", "%d %s, tag %s, loaded %s ago", a.Program.ID, a.Program.Name, a.Program.Tag, span(a.Program.Age))
	if lists := listsText(a); lists != "" {
		about.field("lists", "%s", lists)
	}
	if n := a.Counters.Listed["ban"]; n.Packets > 0 {
		about.add(cell{"bans", faint}, cell{thousands(n.Packets) + " packets dropped", red})
	}
	if unparsed := unparsedText(a.Counters.Unparsed); unparsed != "" {
		about.field("unparsed", "%s (passed, uncharged)", unparsed)
	}
	if a.Counters.Contended > 0 {
		about.field("contended", "%s (denied because other CPUs won every compare-and-swap)", thousands(a.Counters.Contended))
	}
	if a.Counters.EventsLost > 0 {
		about.field("samples", "%s lost: nobody read them in time", thousands(a.Counters.EventsLost))
	}
	about.write(p)
	p.printf("\n")
	writePolicies(p, a)
	p.printf("\n")
}

// place names an attachment's interface, with its network namespace if that is not this process' own.
func place(a *loader.Attachment) string {
	if own, err := loader.OwnNamespace(); err != nil || own == a.Namespace {
		return a.Interface
	}
	return fmt.Sprintf("%s@%d", a.Interface, a.Namespace)
}

func attachmentState(p *page, a *loader.Attachment) string {
	if a.State == loader.StateVanished {
		return p.paint(red, string(a.State)) + ": the interface is gone (weir detach " + a.Interface + " removes what is left)"
	}
	if a.State == loader.StateRemoved {
		return p.paint(red, string(a.State)) + ": somebody took the filter off (weir attach puts it back)"
	}
	return fmt.Sprintf("%s mode, %s", a.Mode, p.paint(green, string(a.State)))
}

// listsText tells how long the lists are, and what they decided.
func listsText(a *loader.Attachment) string {
	var parts []string
	for _, l := range []struct {
		name    string
		entries int
		did     string
	}{{"allow", len(a.Lists.Allow), "passed"}, {"deny", len(a.Lists.Deny), "dropped"}} {
		n := a.Counters.Listed[l.name].Packets
		if l.entries > 0 || n > 0 {
			parts = append(parts, fmt.Sprintf("%s has %s, %s packets %s", l.name, plural(l.entries, "entry", "entries"), thousands(n), l.did))
		}
	}
	return strings.Join(parts, "; ")
}

func unparsedText(unparsed map[string]uint64) string {
	var parts []string
	for _, reason := range loader.UnparsedReasons() {
		if n := unparsed[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", reason, thousands(n)))
		}
	}
	return strings.Join(parts, ", ")
}

func writePolicies(p *page, a *loader.Attachment) {
	if len(a.Policies) == 0 {
		if len(a.Lists.Deny) > 0 {
			p.printf("  no policies: every packet passes that no list denies\n")
			return
		}
		p.printf("  no policies: every packet passes\n")
		return
	}
	strangers := slices.ContainsFunc(a.Policies, func(l loader.LoadedPolicy) bool { return l.NewSources != nil })
	paced := slices.ContainsFunc(a.Policies, func(l loader.LoadedPolicy) bool { return l.Action == policy.ActionPace })
	titles := []string{"POLICY", "RATE", ">BURST", "MODE", ">PASS", ">DROP", ">SHADOW-DROP"}
	if strangers {
		titles = append(titles, ">STRANGERS")
	}
	if paced {
		titles = append(titles, ">PACED")
	}
	g := grid{indent: "  ", columns: columns(titles...)}
	for _, l := range a.Policies {
		counts := a.Counters.Policies[l.Name]
		row := []cell{
			text(l.Name), text(l.Rate()), text(burst(l.Policy)), text(string(l.Mode)),
			number(counts[policy.VerdictPass].Packets),
			alarm(counts[policy.VerdictDrop].Packets, red),
			alarm(counts[policy.VerdictShadowDrop].Packets, yellow),
		}
		if strangers {
			row = append(row, alarm(a.Counters.Strangers[l.Name], yellow))
		}
		if paced {
			row = append(row, number(a.Counters.Paced[l.Name]))
		}
		g.add(row...)
	}
	g.write(p)
}

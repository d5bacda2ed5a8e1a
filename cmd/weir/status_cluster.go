package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

const (
	// maxShownMembers keeps a large cluster from filling the screen; -o json has all that are known.
	maxShownMembers = 16
	// skewShown is from where on the clocks are worth looking at.
	skewShown = time.Second
)

// writeCluster shows how a node stands with the others.
func writeCluster(p *page, s *server.ClusterStatus, now time.Time) {
	p.printf("\n%s  %s, node %s\n", p.paint(bold, "cluster"), plural(s.Nodes, "node", "nodes"), s.Node)
	g := fields("  ")
	g.add(cell{"redis", faint}, redisCell(s))
	g.add(cell{"breaker", faint}, breakerCell(s, now))
	for i, m := range s.Members {
		if i == maxShownMembers {
			g.add(cell{"nodes", faint}, cell{fmt.Sprintf("and %s more", thousands(uint64(len(s.Members)-i))), faint})
			break
		}
		g.add(cell{"node", faint}, lateCell(fmt.Sprintf("%s, heard of %s ago", m.Node, span(m.Age)), max(m.Age-s.ListedAgo, s.HeartbeatAge)))
	}
	g.add(cell{"heartbeat", faint}, lateCell(span(s.HeartbeatAge)+" old", s.HeartbeatAge))
	if lag := s.ReconcileLag; lag != nil {
		g.add(cell{"reconciled", faint}, lateCell(lagText(*lag), *lag))
	}
	g.add(cell{"epoch", faint}, epochCell(s))
	skew := cell{text: "Redis' is " + skewText(s.Skew)}
	if s.Skew.Abs() >= skewShown {
		skew.style = yellow
	}
	g.add(cell{"clocks", faint}, skew)
	g.write(p)
	writeSharedPolicies(p, s.Policies)
}

func redisCell(s *server.ClusterStatus) cell {
	at := strings.Join(s.Redis, ", ")
	if s.Available {
		return cell{at + ", available", green}
	}
	return cell{at + ", away: on_store_failure decides", red}
}

func breakerCell(s *server.ClusterStatus, now time.Time) cell {
	text := fmt.Sprintf("%s for %s", s.Breaker, span(max(0, now.Sub(s.BreakerSince))))
	if s.BreakerOpened > 0 {
		text += fmt.Sprintf(", opened %s", plural(int(s.BreakerOpened), "time", "times"))
	}
	switch {
	case s.Breaker == "closed":
		return cell{text, green}
	case s.LastError != "":
		text += ", last failure: " + s.LastError
	}
	return cell{text, red}
}

// lateCell stands out where others count a node as dead.
func lateCell(text string, age time.Duration) cell {
	if age >= ratesync.BeatLife {
		return cell{text, red}
	}
	return cell{text: text}
}

func lagText(lag time.Duration) string {
	if lag == 0 {
		return "in the last round"
	}
	return span(lag) + " ago"
}

func epochCell(s *server.ClusterStatus) cell {
	switch {
	case s.Epoch == "":
		return cell{"not known yet", yellow}
	case !s.Granting:
		return cell{s.Epoch + ", not granting from it yet", yellow}
	case s.Losses > 0:
		return cell{fmt.Sprintf("%s, Redis lost its data %s", s.Epoch, plural(int(s.Losses), "time", "times")), yellow}
	}
	return cell{text: s.Epoch}
}

func skewText(skew time.Duration) string {
	if skew < 0 {
		return span(-skew) + " behind"
	}
	return span(skew) + " ahead"
}

// writeSharedPolicies shows what of limits is shared, and by how much they may be exceeded.
func writeSharedPolicies(p *page, all []server.ClusterPolicy) {
	if len(all) == 0 {
		return
	}
	p.printf("\n")
	g := grid{indent: "  ", columns: columns("POLICY", "LAYER", "CONSISTENCY", "WITHOUT REDIS", ">MAY EXCEED BY")}
	for _, one := range all {
		consistency := text(one.Consistency)
		if one.ActsStrict {
			consistency = cell{one.Consistency + ", acts strict: its burst is too small for so many nodes", yellow}
		}
		g.add(cell{one.Policy, bold}, text(one.Layer), consistency, text(one.OnStoreFailure), boundCell(&one))
	}
	g.write(p)
}

func boundCell(one *server.ClusterPolicy) cell {
	if one.Bound == nil {
		return cell{"no limit", red}
	}
	n := number(uint64(math.Ceil(*one.Bound)))
	if one.Unit == string(policy.UnitBytes) {
		n.text += " B"
	}
	return n
}

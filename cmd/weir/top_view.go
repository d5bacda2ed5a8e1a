package main

import (
	"fmt"
	"strings"

	"github.com/weir-limiter/weir/internal/top"
)

const (
	topMinSpark = 10 // columns; a shorter line of the past tells nothing
	topMaxSpark = top.Seconds
	topMaxName  = 24 // of who denied, in columns
)

// topLayout is the room that a view has.
type topLayout struct {
	width  int  // columns; 0: as many as it takes
	height int  // lines; 0: as many as it takes
	live   bool // keys do something
}

// writeTop lays out a report. Everything is in lines that are not broken: what is wider is cut by the terminal.
func writeTop(p *page, r *top.Report, l topLayout) {
	writeTopTitle(p, r)
	if r.Window > 0 {
		writeTopTotal(p, r, l)
		writeTopPanels(p, r, l)
	}
	if l.live {
		p.printf("\n")
		writeTopKeys(p, r.By)
	}
}

func writeTopPanels(p *page, r *top.Report, l topLayout) {
	busiest := &topPanel{title: "busiest, by packets that passed", list: r.Busiest, by: top.ByPassed, none: "no packet passed"}
	if r.By == top.ByBytes {
		busiest.title, busiest.by = "busiest, by bytes that passed", top.ByBytes
	}
	first, second := busiest, &topPanel{title: "most denied", list: r.Denied, by: top.ByDropped, none: "nobody was denied"}
	if r.By == top.ByDropped {
		first, second = second, first
	}
	rows1, rows2 := l.rows(len(first.list), len(second.list), topTotalLines(r))
	first.fill(rows1)
	second.fill(rows2)
	size := l.spark(alignGrids(&first.grid, &second.grid), len(r.Total.History.Passed))
	first.write(p, size)
	second.write(p, size)
}

// rows shares the lines out among two panels. What the one does not need is the other's.
func (l topLayout) rows(a, b, total int) (rowsA, rowsB int) {
	if l.height == 0 {
		return a, b
	}
	const fixed = 1 + 2*3 + 2 // title; blank, panel's title and heading, twice; blank, keys
	room := max(2, l.height-fixed-total)
	rowsA = min(a, max(room/2, room-b))
	return rowsA, min(b, room-rowsA)
}

func writeTopTitle(p *page, r *top.Report) {
	parts := []string{counted(r.Attached, "attachment")}
	switch {
	case r.Window == 0:
		parts = append(parts, "listening; the first figures come in a moment")
	case r.Events.Samples == 0:
		parts = append(parts, fmt.Sprintf("no packets in the last %.1f s", r.Window))
	default:
		parts = append(parts, fmt.Sprintf("last %.1f s", r.Window), topSampling(r))
	}
	if r.Events.Lost > 0 {
		parts = append(parts, p.paint(yellow, thousands(r.Events.Lost)+" samples lost"))
	}
	p.printf("%s  %s\n", p.paint(bold, "weir top"), strings.Join(parts, " · "))
	if r.Trouble != "" {
		p.printf("%s\n", p.paint(yellow, "what is attached can't be read: "+r.Trouble))
	}
}

func topSampling(r *top.Report) string {
	if r.Events.Weight <= 1 {
		return "every packet sampled"
	}
	return fmt.Sprintf("1 of %s packets sampled", rateText(r.Events.Weight))
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func topTotalLines(r *top.Report) int {
	lines := 2
	if r.Total.Shadow > 0 {
		lines++
	}
	if r.Trouble != "" {
		lines++
	}
	return lines
}

func writeTopTotal(p *page, r *top.Report, l topLayout) {
	t := &r.Total
	g := grid{columns: columns("", ">", "", ">")}
	exact := func(n *float64) cell {
		if n == nil {
			return text("")
		}
		return cell{"counted " + rateText(*n) + "/s", faint}
	}
	var passed, dropped *float64
	if t.Counted != nil {
		passed, dropped = t.Counted.Passed, &t.Counted.Dropped
	}
	g.add(cell{"passed", faint}, text(rateText(t.Passed)+"/s"), exact(passed), text(bytesText(t.Bytes)+"/s"))
	g.add(cell{"dropped", faint}, colouredRate(t.Dropped, red, "/s"), exact(dropped), text(""))
	if t.Shadow > 0 {
		g.add(cell{"in shadow", faint}, colouredRate(t.Shadow, yellow, "/s"), cell{"passed, and would have been dropped", faint}, text(""))
	}
	if size := l.spark(g.width(), len(t.History.Passed)); size > 0 {
		g.columns = append(g.columns, column{})
		g.rows[0] = append(g.rows[0], cell{sparkline(t.History.Passed, size), green})
		g.rows[1] = append(g.rows[1], cell{sparkline(t.History.Denied, size), red})
		if t.Shadow > 0 {
			g.rows[2] = append(g.rows[2], text(""))
		}
	}
	g.write(p)
}

// spark is how many columns a line of the past has, beside so many others; 0: it is left out.
func (l topLayout) spark(others, seconds int) int {
	size := min(seconds, topMaxSpark)
	if l.live {
		size = topMaxSpark
	}
	if l.width > 0 {
		size = min(size, l.width-others)
	}
	if size < topMinSpark && size < seconds || seconds < 3 && !l.live {
		return 0
	}
	return size
}

func writeTopKeys(p *page, by top.By) {
	keys := []struct {
		text string
		by   top.By
	}{{"p packets", top.ByPassed}, {"d denied", top.ByDropped}, {"b bytes", top.ByBytes}, {"q quit", ""}}
	var line []string
	for _, k := range keys {
		s := faint
		if k.by == by {
			s = bold
		}
		line = append(line, p.paint(s, k.text))
	}
	p.printf("%s\n", strings.Join(line, "   "))
}

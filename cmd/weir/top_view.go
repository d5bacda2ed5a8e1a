package main

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/loader"
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
		busiest := topPanel{title: "busiest, by packets that passed", list: r.Busiest, by: top.ByPassed, none: "no packet passed"}
		if r.By == top.ByBytes {
			busiest.title, busiest.by = "busiest, by bytes that passed", top.ByBytes
		}
		panels := []topPanel{busiest, {title: "most denied", list: r.Denied, by: top.ByDropped, none: "nobody was denied"}}
		if r.By == top.ByDropped {
			panels[0], panels[1] = panels[1], panels[0]
		}
		panels[0].rows, panels[1].rows = l.rows(len(panels[0].list), len(panels[1].list), topTotalLines(r))
		for _, panel := range panels {
			panel.write(p, l)
		}
	}
	if l.live {
		writeTopKeys(p, r.By)
	}
}

// rows shares the lines out among two panels. What the one does not need is the other's.
func (l topLayout) rows(a, b, total int) (rowsA, rowsB int) {
	if l.height == 0 {
		return a, b
	}
	const fixed = 1 + 2*3 + 1 // title; blank, panel's title and heading, twice; keys
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
	g := grid{columns: columns("", ">", "", ">", "")}
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
	size := l.spark(60, len(t.History.Passed))
	g.add(cell{"passed", faint}, text(rateText(t.Passed)+"/s"), exact(passed), text(bytesText(t.Bytes)+"/s"),
		cell{sparkline(t.History.Passed, size), green})
	g.add(cell{"dropped", faint}, colouredRate(t.Dropped, red, "/s"), exact(dropped), text(""),
		cell{sparkline(t.History.Denied, size), red})
	if t.Shadow > 0 {
		g.add(cell{"in shadow", faint}, colouredRate(t.Shadow, yellow, "/s"), cell{"passed, and would have been dropped", faint}, text(""), text(""))
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
		size = min(size, l.width-others-2)
	}
	if size < topMinSpark && size < seconds || seconds < 3 && !l.live {
		return 0
	}
	return size
}

// topPanel is a list of sources.
type topPanel struct {
	title, none string
	list        []top.Source
	by          top.By
	rows        int
}

func (t *topPanel) write(p *page, l topLayout) {
	p.printf("\n%s\n", p.paint(bold, t.title))
	if len(t.list) == 0 {
		p.printf("%s\n", p.paint(faint, t.none))
		return
	}
	g := grid{columns: t.columns()}
	for i := range t.list[:t.rows] {
		g.add(t.row(&t.list[i])...)
	}
	history := t.history(&t.list[0])
	if size := l.spark(g.width(), len(history)); size > 0 {
		g.columns = append(g.columns, column{title: fmt.Sprintf("LAST %d s", size)})
		for i := range g.rows {
			g.rows[i] = append(g.rows[i], cell{sparkline(t.history(&t.list[i]), size), t.style()})
		}
	}
	g.write(p)
}

func (t *topPanel) columns() []column {
	switch t.by {
	case top.ByBytes:
		return columns("SOURCE", ">BYTES/s", ">PASSED/s", ">±", ">DENIED/s", ">SHARE", "MOSTLY", "DENIED BY")
	case top.ByDropped:
		return columns("SOURCE", ">DENIED/s", ">±", ">PASSED/s", ">SHARE", "MOSTLY", "DENIED BY")
	}
	return columns("SOURCE", ">PASSED/s", ">±", ">DENIED/s", ">SHARE", "MOSTLY", "DENIED BY")
}

func (t *topPanel) row(s *top.Source) []cell {
	passed, denied := colouredRate(s.Passed.PerSecond, plain, ""), deniedCell(s)
	share := text(fmt.Sprintf("%.1f %%", 100*s.Share))
	rest := []cell{share, text(serviceText(s)), text(deniedBy(s))}
	source := text(s.Source.String())
	switch t.by {
	case top.ByBytes:
		return append([]cell{source, text(bytesText(s.Bytes)), passed, errorCell(s.Passed), denied}, rest...)
	case top.ByDropped:
		return append([]cell{source, denied, errorCell(s.Denied), passed}, rest...)
	}
	return append([]cell{source, passed, errorCell(s.Passed), denied}, rest...)
}

func (t *topPanel) history(s *top.Source) []uint64 {
	switch t.by {
	case top.ByBytes:
		return s.History.Bytes
	case top.ByDropped:
		return s.History.Denied
	}
	return s.History.Passed
}

func (t *topPanel) style() style {
	if t.by == top.ByDropped {
		return red
	}
	return green
}

// deniedCell stands out by what was done: dropped, or only counted.
func deniedCell(s *top.Source) cell {
	if s.Dropped == 0 {
		return colouredRate(s.Denied.PerSecond, yellow, "")
	}
	return colouredRate(s.Denied.PerSecond, red, "")
}

func errorCell(r top.Rate) cell { return cell{"±" + rateText(r.Error), faint} }

func serviceText(s *top.Source) string {
	if s.Port == 0 {
		return s.Protocol
	}
	return fmt.Sprintf("%s/%d", s.Protocol, s.Port)
}

// deniedBy names who denied most often.
func deniedBy(s *top.Source) string {
	if s.DeniedBy == nil {
		return ""
	}
	name := s.DeniedBy.Policy
	if name == "" {
		name = "unknown policy"
	}
	if runes := []rune(name); len(runes) > topMaxName {
		name = string(runes[:topMaxName-1]) + "…"
	}
	switch s.DeniedBy.Cause {
	case loader.CauseDeny:
		name = "deny list"
	case loader.CauseBan:
		name = "ban"
	case loader.CauseStranger:
		name += " (stranger)"
	case loader.CauseFragment:
		name += " (fragment)"
	}
	if s.Dropped == 0 {
		name += ", shadow"
	}
	return name
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

// width is how many columns the grid has without indent.
func (g *grid) width() int {
	sum := 0
	for i, c := range g.columns {
		widest := utf8.RuneCountInString(c.title)
		for _, row := range g.rows {
			widest = max(widest, utf8.RuneCountInString(row[i].text))
		}
		sum += widest + 2
	}
	return sum
}

// rateText writes a rate with as many digits as tell something.
func rateText(perSecond float64) string {
	if perSecond < 9.95 && perSecond != math.Trunc(perSecond) {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return thousands(uint64(math.Round(perSecond)))
}

// colouredRate is a rate that stands out if there is one, and fades if not.
func colouredRate(perSecond float64, s style, unit string) cell {
	if perSecond == 0 {
		s = faint
	}
	return cell{rateText(perSecond) + unit, s}
}

// bytesText writes bytes with three digits in a decimal unit.
func bytesText(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	unit := 0
	for n >= 999.5 && unit < len(units)-1 {
		n /= 1000
		unit++
	}
	if n >= 99.95 || unit == 0 {
		return fmt.Sprintf("%.0f %s", n, units[unit])
	}
	return fmt.Sprintf("%.3g %s", n, units[unit])
}

// sparkline draws the last values, up to size of them, the newest at the right. The largest is a full block;
// nothing at all is a blank, so that it can be told from little.
func sparkline(values []uint64, size int) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	values = values[max(0, len(values)-size):]
	var largest uint64
	for _, v := range values {
		largest = max(largest, v)
	}
	var line strings.Builder
	line.WriteString(strings.Repeat(" ", size-len(values)))
	for _, v := range values {
		if v == 0 {
			line.WriteByte(' ')
			continue
		}
		line.WriteRune(blocks[int(math.Ceil(float64(v)/float64(largest)*float64(len(blocks))))-1])
	}
	return line.String()
}

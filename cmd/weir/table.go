package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// style is how text stands out on a terminal: the parameter of an SGR escape sequence.
type style string

const (
	plain  style = ""
	bold   style = "1"
	faint  style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// show prints v: as JSON if the user asked for it, else as view lays it out.
func (e *env) show(v any, view func(*page)) error {
	return e.print(v, func(w io.Writer) error {
		p := &page{w: w, colour: e.colour}
		view(p)
		return p.err
	})
}

// page is what a view writes to. It keeps the first error, so that views need not look at each line's.
type page struct {
	w      io.Writer
	colour bool
	err    error
}

func (p *page) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *page) paint(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is one field of a grid.
type cell struct {
	text  string
	style style
}

func text(s string) cell { return cell{text: s} }

// number is a cell that fades where there is nothing to see.
func number(n uint64) cell {
	if n == 0 {
		return cell{"0", faint}
	}
	return text(thousands(n))
}

// column is one column of a grid; figures go to the right.
type column struct {
	title string
	right bool
}

// grid is a table of text with aligned columns. One without titles has no heading.
type grid struct {
	indent  string
	columns []column
	rows    [][]cell
}

// columns reads titles, each with a ">" before it if its column goes to the right.
func columns(titles ...string) []column {
	all := make([]column, len(titles))
	for i, title := range titles {
		all[i].title, all[i].right = strings.CutPrefix(title, ">")
	}
	return all
}

func (g *grid) add(cells ...cell) { g.rows = append(g.rows, cells) }

// field adds a line of a list of names and values.
func (g *grid) field(name, format string, args ...any) {
	g.add(cell{name, faint}, text(fmt.Sprintf(format, args...)))
}

// fields is a grid for names and values.
func fields(indent string) *grid { return &grid{indent: indent, columns: columns("", "")} }

func (g *grid) write(p *page) {
	widths := make([]int, len(g.columns))
	head := make([]cell, len(g.columns))
	titled := false
	for i, c := range g.columns {
		head[i] = cell{c.title, bold}
		widths[i] = utf8.RuneCountInString(c.title)
		titled = titled || c.title != ""
	}
	for _, row := range g.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	if titled {
		g.writeRow(p, head, widths)
	}
	for _, row := range g.rows {
		g.writeRow(p, row, widths)
	}
}

// writeRow pads outside the escape sequences, which have no width, and leaves no blanks at the end.
func (g *grid) writeRow(p *page, row []cell, widths []int) {
	var line strings.Builder
	for i, c := range row {
		padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
		if g.columns[i].right {
			line.WriteString(padding + p.paint(c.style, c.text) + "  ")
		} else {
			line.WriteString(p.paint(c.style, c.text) + padding + "  ")
		}
	}
	p.printf("%s%s\n", g.indent, strings.TrimRight(line.String(), " "))
}

// thousands writes n with commas.
func thousands(n uint64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// memorySize writes bytes in the largest binary unit, with one decimal if that is not whole.
func memorySize(bytes uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(bytes), 0
	for size >= 1024 && unit < len(units)-1 {
		size /= 1024
		unit++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", size), ".0") + " " + units[unit]
}

func percent(part, whole int) string {
	if whole == 0 {
		return "0.0 %"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}

// span writes a duration with about three digits: "1.25ms", "3.4s", "2h5m", "3d4h".
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}

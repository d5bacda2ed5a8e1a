package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weir-limiter/weir/internal/top"
)

// topPanel is a list of sources.
type topPanel struct {
	title, none string
	list        []top.Source
	by          top.By
	grid        grid
}

// fill lays out the first rows of the list.
func (t *topPanel) fill(rows int) {
	t.list = t.list[:rows]
	t.grid.columns = t.columns()
	for i := range t.list {
		t.grid.add(t.row(&t.list[i])...)
	}
}

// write adds a line of the past to each source, of so many columns.
func (t *topPanel) write(p *page, spark int) {
	p.printf("\n%s\n", p.paint(bold, t.title))
	if len(t.list) == 0 {
		p.printf("%s\n", p.paint(faint, t.none))
		return
	}
	if spark > 0 {
		t.grid.columns = append(t.grid.columns, column{title: fmt.Sprintf("LAST %d s", spark)})
		for i := range t.grid.rows {
			t.grid.rows[i] = append(t.grid.rows[i], cell{sparkline(t.history(&t.list[i]), spark), t.style()})
		}
	}
	t.grid.write(p)
}

func (t *topPanel) columns() []column {
	switch t.by {
	case top.ByBytes:
		return columns("SOURCE", ">BYTES/s", ">PASSED/s", ">DENIED/s", ">SHARE", "MOSTLY", "DENIED BY")
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
		return append([]cell{source, text(bytesText(s.Bytes)), passed, denied}, rest...)
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

// alignGrids makes the columns of two grids, which have the same number, equally wide: by their titles, which
// are padded. It returns the width of all.
func alignGrids(a, b *grid) int {
	sum := 0
	for i := range a.columns {
		widest := max(a.columnWidth(i), b.columnWidth(i))
		sum += widest + 2
		for _, c := range []*column{&a.columns[i], &b.columns[i]} {
			padding := strings.Repeat(" ", widest-utf8.RuneCountInString(c.title))
			if c.right {
				c.title = padding + c.title
			} else {
				c.title += padding
			}
		}
	}
	return sum
}

// width is how many columns the grid has without indent.
func (g *grid) width() int {
	sum := 0
	for i := range g.columns {
		sum += g.columnWidth(i) + 2
	}
	return sum
}

func (g *grid) columnWidth(i int) int {
	widest := utf8.RuneCountInString(g.columns[i].title)
	for _, row := range g.rows {
		widest = max(widest, utf8.RuneCountInString(row[i].text))
	}
	return widest
}

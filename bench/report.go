package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/weir-limiter/weir/internal/bench"
)

// report is what was measured. Scripts read it: add fields, rename none.
type report struct {
	Rows    []row    `json:"rows"`
	Figures []figure `json:"figures"`
}

// row is one contender at one task.
type row struct {
	Task      string        `json:"task"`
	Contender string        `json:"contender"`
	Rate      bench.Summary `json:"per_second"` // of each core, or of the server
}

// figure is a number with a target, or for comparison.
type figure struct {
	Task    string   `json:"task"`
	What    string   `json:"what"`
	Value   float64  `json:"value"`
	Unit    string   `json:"unit"` // "ratio", "ns", "/s", "bytes", "allocations", "count"
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`
	Met     *bool    `json:"met,omitempty"`
}

func (r *report) rates(task, contender string, rates []float64) {
	r.Rows = append(r.Rows, row{task, contender, bench.Summarise(rates)})
}

func (r *report) atLeast(task, what string, value float64, unit string, target float64) {
	met := value >= target
	r.Figures = append(r.Figures, figure{Task: task, What: what, Value: value, Unit: unit, AtLeast: &target, Met: &met})
}

func (r *report) atMost(task, what string, value float64, unit string, target float64) {
	met := value <= target
	r.Figures = append(r.Figures, figure{Task: task, What: what, Value: value, Unit: unit, AtMost: &target, Met: &met})
}

func (r *report) shown(task, what string, value float64, unit string) {
	r.Figures = append(r.Figures, figure{Task: task, What: what, Value: value, Unit: unit})
}

// ratio is the median of a's figure for each of b's, round by round.
func ratio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return bench.Summarise(ratios).Median
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.TabIndent)
	fmt.Fprintf(t, "TASK\tCONTENDER\tPER SECOND\tQUARTILES\t\n")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s - %s\t\n", row.Task, row.Contender, thousands(row.Rate.Median), thousands(row.Rate.LowerQuartile), thousands(row.Rate.UpperQuartile))
	}
	fmt.Fprintf(t, "\nTASK\tFIGURE\tHERE\tTARGET\t\n")
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", f.Task, f.What, f.text(f.Value), f.target())
	}
	return t.Flush()
}

func (f *figure) target() string {
	verdict := ""
	if f.Met != nil && *f.Met {
		verdict = " met"
	} else if f.Met != nil {
		verdict = " MISSED"
	}
	switch {
	case f.AtLeast != nil:
		return ">= " + f.text(*f.AtLeast) + verdict
	case f.AtMost != nil:
		return "<= " + f.text(*f.AtMost) + verdict
	}
	return ""
}

func (f *figure) text(v float64) string {
	switch f.Unit {
	case "ns":
		return time.Duration(v).String()
	case "/s":
		return thousands(v) + "/s"
	case "bytes":
		return fmt.Sprintf("%.1f B", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.1f k", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}

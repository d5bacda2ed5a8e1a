package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/weir-limiter/weir/internal/demo"
	"github.com/weir-limiter/weir/pkg/policy"
)

// demoWidth is what the demo's output is laid out for, in columns. Only its table can become wider, after minutes.
const demoWidth = 98

// demoTableHeight is how many lines are written over.
const demoTableHeight = 10

// demoScreen shows a demo while it runs: on a terminal a table that changes in place, elsewhere each table when it is complete.
type demoScreen struct {
	out     io.Writer
	colour  bool
	inPlace bool
	begun   bool
	lines   int // of the table that is to be written over
}

func newDemoScreen(e *env) *demoScreen {
	return &demoScreen{out: e.out, colour: e.colour, inPlace: canRewrite(e.out)}
}

// canRewrite tells whether out is a terminal on which the lines of a table stay where they are: none is broken, and none leaves at the top.
func canRewrite(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	width, height, err := term.GetSize(int(file.Fd()))
	return err == nil && width >= demoWidth+2 && height > demoTableHeight
}

// begin says what is to be seen, as soon as there is something: before, an error would have to be the only line.
func (s *demoScreen) begin() {
	s.begun = true
	p := &page{w: s.out, colour: s.colour}
	p.printf("Six hosts send through a router to a gateway, all in network namespaces of this process.\n")
	each, network := demo.PerClient(), demo.PerNetwork()
	g := fields("")
	g.field(each.Name, "%s for each source; new_sources: %s that were never seen before",
		each.Rate(), policy.Policy{Limit: each.NewSources.Limit, Window: each.NewSources.Window}.Rate())
	g.field(network.Name, "%s for each IPv4 /%d", network.Rate(), network.IPv4Prefix)
	g.write(p)
	p.printf("\n")
}

// show is an observer of the demo. What can't be written is nobody's loss: a closed pipe also ends the demo.
func (s *demoScreen) show(progress demo.Progress) {
	if !s.begun {
		s.begin()
	}
	if !s.inPlace && !progress.Done {
		return
	}
	var table bytes.Buffer
	writeDemoTable(&page{w: &table, colour: s.colour}, progress)
	text := table.String()
	if s.inPlace {
		text = strings.ReplaceAll(text, "\n", "\x1b[K\n") // what is left of a longer line
		if s.lines > 0 {
			text = fmt.Sprintf("\x1b[%dA", s.lines) + text
		}
	}
	s.lines = strings.Count(text, "\n")
	if progress.Done {
		s.lines = 0 // this one stays
	}
	io.WriteString(s.out, text)
}

func writeDemoTable(p *page, progress demo.Progress) {
	writeDemoTitle(p, progress)
	g := grid{columns: columns("CLIENT", ">SENT", ">PASSED", ">DROPPED", ">RATE", ">LIMIT", "VERDICT")}
	for _, c := range progress.Now.Clients {
		limit, verdict := cell{"none", faint}, cell{}
		if progress.Attached {
			limit, verdict = text(c.Limit()), demoVerdict(c)
		} else if c.Dropped == 0 {
			verdict = text("all of it gets through")
		}
		g.add(text(c.Name), number(c.Sent), number(c.Passed), alarm(c.Dropped, plain), text(demoRate(c.Rate)), limit, verdict)
	}
	g.write(p)
	x := progress.Now.Exchanges
	failed := p.paint(faint, "0 failed")
	if x.Failed > 0 {
		failed = p.paint(red, thousands(x.Failed)+" failed")
	}
	p.printf("TCP exchanges of the good client: %s ok, %s, half within %s, 99 %% within %s\n\n",
		thousands(x.OK), failed, span(x.P50), span(x.P99))
}

// writeDemoTitle rules a line after the title, the heavier part of which is the time that has gone by.
func writeDemoTitle(p *page, progress demo.Progress) {
	title, of := "Without weir ", span(progress.Of)
	if progress.Attached {
		title = "With weir on the gateway's eth0 "
		if progress.Attempt > 1 {
			title = "This machine was too busy, so once more: with weir on the gateway's eth0 "
		}
	}
	elapsed := min(progress.Now.Elapsed, progress.Of)
	if progress.Done {
		elapsed = progress.Of
	}
	time := fmt.Sprintf(" %.1f of %s", elapsed.Seconds(), of)
	width := demoWidth - utf8.RuneCountInString(title+time)
	gone := int(math.Round(float64(width) * elapsed.Seconds() / progress.Of.Seconds()))
	p.printf("%s%s%s%s\n", p.paint(bold, title), strings.Repeat("━", gone), strings.Repeat("─", width-gone), time)
}

func demoVerdict(c demo.Client) cell {
	switch {
	case !c.OK:
		return cell{c.Verdict, red}
	case c.Kind == demo.KindGood:
		return cell{c.Verdict, green}
	}
	return cell{c.Verdict, yellow}
}

func demoRate(perSecond float64) string { return thousands(uint64(math.Round(perSecond))) + "/s" }

// writeDemoSummary says what the tables prove, what the kernel has to say to it, and what to do next.
func writeDemoSummary(p *page, r *demo.Result) {
	verdict := green
	if !r.Proved {
		verdict = red
	}
	for _, line := range wrap(r.Summary, demoWidth) {
		p.printf("%s\n", p.paint(verdict, line))
	}
	p.printf("The kernel counted %s passes and %s drops: %s of strangers, and %s by the ban.\n\n",
		thousands(r.Kernel.Passed), thousands(r.Kernel.Dropped), thousands(r.Kernel.Strangers), thousands(r.Kernel.Banned))
	g := fields("")
	g.field("next", "weir attach eth0 -c weir.yaml   hold a real interface to a file's policies (see README.md)")
	g.field("undo", "weir detach eth0                take weir off again, and leave nothing behind")
	g.write(p)
}

// wrap breaks text at blanks into lines of at most width runes, but for words that are longer.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

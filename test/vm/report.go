package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// event is what the machine writes, a line each: those of go doc test2json, and its own.
type event struct {
	Action  string
	Package string
	Test    string  // empty: the package as a whole
	Elapsed float64 // seconds
	Output  string
}

// The machine's own events.
const (
	actionBooted = "vm-booted" // Output is the kernel's release
	actionBroken = "vm-broken" // Output is why not all suites ran
	actionDone   = "vm-done"   // all suites ran
)

type testID struct{ pkg, test string }

func (id testID) String() string { return strings.TrimSuffix(id.pkg+" "+id.test, " ") }

// report is what became of a machine's tests. Subtests count as tests.
type report struct {
	release  string
	done     bool
	running  map[testID]bool
	output   map[testID]*strings.Builder
	ended    map[string][]testID // by action: pass, fail, skip
	elapsed  map[testID]time.Duration
	problems []string
	console  []byte
	took     time.Duration
}

func newReport() *report {
	return &report{
		running: map[testID]bool{}, output: map[testID]*strings.Builder{},
		ended: map[string][]testID{}, elapsed: map[testID]time.Duration{},
	}
}

func (r *report) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// read takes events until there are no more.
func (r *report) read(events io.Reader) {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				r.problem("the machine wrote %q, which is no event", line)
			} else {
				r.add(e)
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *report) add(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case actionBooted:
		r.release = e.Output
	case actionBroken:
		r.problem("%s", e.Output)
	case actionDone:
		r.done = true
	case "run":
		r.running[id] = true
	case "output":
		if r.output[id] == nil {
			r.output[id] = &strings.Builder{}
		}
		r.output[id].WriteString(e.Output)
	case "pass", "fail", "skip":
		delete(r.running, id)
		r.ended[e.Action] = append(r.ended[e.Action], id)
		r.elapsed[id] = time.Duration(e.Elapsed * float64(time.Second))
	}
}

// count is how many tests of a package ended so; of all packages if pkg is empty.
func (r *report) count(action, pkg string) (n int) {
	for _, id := range r.ended[action] {
		if id.test != "" && (pkg == "" || pkg == id.pkg) {
			n++
		}
	}
	return n
}

// judge adds to the problems what the machine didn't do. What failed of its own is not in them.
func (r *report) judge(m machine) {
	for _, s := range m.Suites {
		if r.count("pass", s.Package)+r.count("fail", s.Package) == 0 && s.Run == "" {
			r.problem("%s: no tests ran", s.Package)
		}
	}
	if r.count("pass", "")+r.count("fail", "") == 0 {
		r.problem("no tests ran")
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.running), compareIDs) {
		r.problem("%v did not end; its output so far:\n%s", id, r.outputOf(id))
	}
	if !r.done {
		r.problem("the machine did not come to its end; the last lines of its console:\n%s", tail(r.console, 40))
	}
}

// write tells what became of the tests, and whether all is well: a line, and whatever failed.
func (r *report) write(w io.Writer, m machine, verbose bool) (ok bool) {
	r.judge(m)
	if verbose {
		for _, id := range slices.SortedFunc(maps.Keys(r.elapsed), compareIDs) {
			fmt.Fprintf(w, "%8.2fs %v\n", r.elapsed[id].Seconds(), id)
		}
	}
	for _, id := range r.ended["fail"] {
		fmt.Fprintf(w, "FAIL on kernel %s, %d CPUs: %v\n%s", r.name(m), m.CPUs, id, r.outputOf(id))
	}
	for _, p := range r.problems {
		fmt.Fprintf(w, "FAIL on kernel %s, %d CPUs: %s\n", r.name(m), m.CPUs, p)
	}
	fmt.Fprintf(w, "kernel %s, %d CPUs: %d tests passed, %d failed, %d skipped%s, in %v\n", r.name(m), m.CPUs,
		r.count("pass", ""), r.count("fail", ""), r.count("skip", ""), r.reasons(), r.took.Round(time.Second/10))
	return len(r.ended["fail"]) == 0 && len(r.problems) == 0
}

// name is the release that ran, or the one that was meant to.
func (r *report) name(m machine) string {
	if r.release == "" {
		return m.Kernel
	}
	return r.release
}

// reasons of the tests that skipped themselves: the last line that each printed before it said so.
func (r *report) reasons() string {
	var all []string
	for _, id := range r.ended["skip"] {
		if id.test == "" {
			continue // a package none of whose tests match
		}
		reason := "no reason"
		for line := range strings.Lines(r.outputOf(id)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--- ") && !strings.HasPrefix(line, "=== ") {
				reason = line
			}
		}
		all = append(all, fmt.Sprintf("%v: %s", id, reason))
	}
	if all == nil {
		return ""
	}
	return " (" + strings.Join(all, "; ") + ")"
}

func (r *report) outputOf(id testID) string {
	if b := r.output[id]; b != nil {
		return b.String()
	}
	return ""
}

func compareIDs(a, b testID) int { return strings.Compare(a.String(), b.String()) }

// tail is the last n lines.
func tail(b []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r", "")), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

package main

import (
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/bench"
)

func measured(contender string, median float64) bench.Measured {
	return bench.Measured{
		Contender: contender, Dropped: 0.123, Lost: 1234,
		NS: bench.Summary{Median: median, LowerQuartile: median - 2, UpperQuartile: median + 3},
	}
}

// compared has quartiles 1 below and 2 above the median.
func compared(unit bench.Unit, median, atMost, atLeast float64) bench.Comparison {
	c := bench.Comparison{
		Section: "run", Traffic: "1 source", What: "weir / bare drop", Unit: unit,
		Summary: bench.Summary{Median: median, LowerQuartile: median - 1, UpperQuartile: median + 2},
	}
	met := true
	if atMost > 0 {
		met = median <= atMost
		c.AtMost, c.Met = &atMost, &met
	}
	if atLeast > 0 {
		met = median >= atLeast
		c.AtLeast, c.Met = &atLeast, &met
	}
	return c
}

func TestBenchView(t *testing.T) {
	void := measured("weir", 50)
	void.Void = "it admitted all"
	voidComparison := compared(bench.UnitRatio, 0, 2, 0)
	voidComparison.Void, voidComparison.Met = true, nil
	for _, c := range []struct {
		name   string
		report bench.Report
		want   []string
		not    []string
	}{
		{
			"all of it",
			bench.Report{
				Machine: bench.Machine{CPU: "Z80", CPUs: 1, Kernel: "6.1", JIT: true}, Rounds: 3, Packets: 2000,
				Rows: []bench.Row{
					{Section: "run", Traffic: "1 source", Contenders: []bench.Measured{measured("bare drop", 20), measured("weir", 50)}},
					{Section: "live", Traffic: "2^32 sources", Contenders: []bench.Measured{measured("bare drop", 1000)}},
				},
				Comparisons: []bench.Comparison{
					compared(bench.UnitNS, 30, 30, 0), compared(bench.UnitNS, 30.1, 30, 0),
					compared(bench.UnitRatio, 1.7, 0, 1.7), compared(bench.UnitRatio, 1.699, 0, 1.7), compared(bench.UnitRatio, 9, 0, 0),
				},
				Memory:   &bench.Memory{Sources: 1 << 20, Weir: 16 << 20, LRU: 120 << 20},
				Programs: []bench.ProgramCost{{Program: "weir_xdp", Hook: "xdp", Policies: 8, Instructions: 1184, Processed: 34437, Stack: "160+16"}},
			},
			[]string{
				"Z80, 1 CPUs, Linux 6.1, BPF compiled (JIT)\n",
				"median of 3 rounds of 2,000 packets each",
				"\nrun: a program on a packet in memory, one CPU\n\n",
				"traffic              ns/packet  quartiles   Mpps  dropped   lost\n",
				"1 source  bare drop         20    (18-23)  50.00   12.3 %  1,234\n",
				"          weir              50    (48-53)  20.00   12.3 %  1,234\n",
				"\nlive: live frames",
				"2^32 sources  bare drop       1000  (998-1003)  1.00",
				"run      1 source  weir / bare drop  30.0 ns     (29.0-32.0)  <= 30 ns  met\n",
				"30.1 ns     (29.1-32.1)  <= 30 ns  missed\n",
				"1.700   (0.700-3.700)    >= 1.7  met\n",
				"1.699   (0.699-3.699)    >= 1.7  missed\n",
				"9.000  (8.000-11.000)      none\n",
				"weir_xdp  xdp          8         1,184           34,437  160+16\n",
				"Memory for 1,048,576 sources: LRU_PERCPU_HASH 120 MiB, weir 16 MiB.\n",
			},
			[]string{"void", "left out"},
		},
		{
			"void and left out, interpreted",
			bench.Report{
				Machine:     bench.Machine{CPU: "Z80", Kernel: "6.1"},
				Rows:        []bench.Row{{Section: "run", Traffic: "1 source", Contenders: []bench.Measured{void}}},
				Comparisons: []bench.Comparison{voidComparison},
				LeftOut:     []bench.LeftOut{{What: "nftables", Why: "nft is not installed"}, {What: "two CPUs", Why: "there is one"}},
			},
			[]string{
				"BPF interpreted: ",
				"1 source  weir       void\n",
				"void: run, 1 source, weir: it admitted all\n",
				"weir / bare drop    void               <= 2\n",
				"\nleft out: nftables: nft is not installed\nleft out: two CPUs: there is one\n",
			},
			[]string{"Memory", "met", "missed", "policies"},
		},
		{
			"the verifier alone",
			bench.Report{Programs: []bench.ProgramCost{{Program: "weir_xdp"}}},
			[]string{"program   hook  policies  instructions  verifier walked  stack depth\n"},
			[]string{"median", "target"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			p := &page{w: &out}
			writeBench(p, &c.report)
			if p.err != nil {
				t.Fatal(p.err)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("want %q in:\n%s", want, out.String())
				}
			}
			for _, not := range c.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("do not want %q in:\n%s", not, out.String())
				}
			}
		})
	}
}

func TestBenchUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"bench", "--rounds", "0"}, exitUsage, "want 1 to 101 (see: weir bench --help)"},
		{[]string{"bench", "--packets", "1"}, exitUsage, "want 1000 to 10000000"},
		{[]string{"bench", "--only", "live,walk"}, exitUsage, `no section "walk", want some of run, policies, live`},
		{[]string{"bench", "now"}, exitUsage, ""},
		{[]string{"bench", "--compare", "/nowhere.o"}, exitFailure, "it is bpf/bench/lru.bpf.o of weir's source"},
	} {
		r := weir(t, c.args...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%v: %+v, want exit code %d and %q", c.args, r, c.code, c.want)
		}
	}
}

// The cheapest section, from the command line to the page.
func TestBenchVerifier(t *testing.T) {
	r := weir(t, "bench", "--only", "verifier")
	if r.code != exitOK || !strings.Contains(r.out, "weir_tc   tc-egress         64  ") {
		t.Errorf("%+v", r)
	}
}

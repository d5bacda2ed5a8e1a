package main

import (
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/bench"
	"github.com/weir-limiter/weir/pkg/policy"
)

func measured(median float64, verdict policy.Verdict) bench.Measured {
	return bench.Measured{
		Summary: bench.Summary{Median: median, LowerQuartile: median - 2, UpperQuartile: median + 3},
		Verdict: verdict, Share: 1,
	}
}

// benchRow compares with an LRU of lru ns and that verdict; with none if it has no verdict.
func benchRow(sources uint64, weir, lru float64, lruVerdict policy.Verdict, target float64) bench.Row {
	r := bench.Row{
		Sources: sources, Verdict: policy.VerdictDrop,
		Bare: bench.Summary{Median: 24, LowerQuartile: 24, UpperQuartile: 25}, Weir: measured(weir, policy.VerdictDrop),
	}
	if lruVerdict == "" {
		return r
	}
	l, ratio := measured(lru, lruVerdict), weir/lru
	r.LRU, r.Ratio = &l, &ratio
	if target > 0 {
		met := ratio <= target
		r.Target, r.Met = &target, &met
	}
	return r
}

func TestBenchView(t *testing.T) {
	machine := bench.Machine{CPU: "Z80", CPUs: 1, Kernel: "6.1", JIT: true}
	policies := []bench.PolicyRow{
		{Policies: 1, Weir: measured(60, policy.VerdictPass)},
		{Policies: 8, Weir: measured(200, policy.VerdictPass), Further: 20},
	}
	for _, c := range []struct {
		name   string
		report bench.Report
		want   []string
		not    []string
	}{
		{
			"compared",
			bench.Report{
				Machine: machine, Rounds: 3, Packets: 2000, Policies: policies,
				Rows: []bench.Row{
					benchRow(1, 67, 89, policy.VerdictDrop, 0.75), // just above: it must not look as if it were at it,
					benchRow(65536, 150, 300, policy.VerdictDrop, 0),
					benchRow(1<<32, 200, 800, policy.VerdictPass, 0.45),
				},
				Memory: &bench.Memory{Sources: 1 << 20, Weir: 16 << 20, LRU: 120 << 20},
			},
			[]string{
				"Z80, Linux 6.1, BPF compiled (JIT)\n",
				"median of 3 rounds of 2,000 packets each",
				"sources  verdict   bare drop  LRU_PERCPU_HASH           weir  weir/LRU  target\n",
				"      1  drop     24 (24-25)       89 (87-92)     67 (65-70)     0.753  <= 0.75 missed\n",
				"  65536  drop     24 (24-25)    300 (298-303)  150 (148-153)     0.500  none\n",
				"   2^32  drop     24 (24-25)  * 800 (798-803)  200 (198-203)     0.250  <= 0.45 met\n",
				"\n* The limit is 1 packet a day.",
				"Memory for 1,048,576 sources: LRU_PERCPU_HASH 120 MiB, weir 16 MiB.\n",
				"       8  200 (198-203)              20.0\n",
			},
			[]string{"--compare", "two CPUs"},
		},
		{
			"alone, on two CPUs as well, interpreted",
			bench.Report{
				Machine: bench.Machine{CPU: "Z80", Kernel: "6.1"}, Policies: policies,
				Rows:     []bench.Row{benchRow(1<<32, 200, 0, "", 0)},
				Parallel: []bench.Row{benchRow(1, 90, 0, "", 0)},
			},
			[]string{
				"BPF interpreted: ",
				"sources  verdict   bare drop           weir\n",
				"   2^32  drop     24 (24-25)  200 (198-203)\n",
				"weir bench --compare bpf/bench/lru.bpf.o",
				"one source on two CPUs at once",
			},
			[]string{"LRU", "target", "Memory", "* "},
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
		{[]string{"bench", "now"}, exitUsage, ""},
		{[]string{"bench", "--compare", "/nowhere.o"}, exitFailure, "it is bpf/bench/lru.bpf.o of weir's source"},
	} {
		r := weir(t, c.args...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%v: %+v, want exit code %d and %q", c.args, r, c.code, c.want)
		}
	}
}

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

const comparisonFile = "../../bpf/bench/lru.bpf.o"

// newRunner makes a run that is over in a second or two.
func newRunner(t *testing.T, compare string, only ...string) *runner {
	t.Helper()
	testutil.RequireRoot(t)
	r := &runner{
		Options: Options{Rounds: 3, Packets: 5_000, Compare: compare, Only: only}, many: 1 << 10, entries: 1 << 14,
		setEntries: 2_000, live: tight(), report: &Report{},
	}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkFigures holds what every row has in common.
func checkFigures(t *testing.T, report *Report) {
	t.Helper()
	for _, row := range report.Rows {
		for _, m := range row.Contenders {
			ordered := 0 < m.NS.Min && m.NS.Min <= m.NS.Median && m.NS.Median <= m.NS.Max
			if m.Void != "" || !ordered || m.Packets < 3*5_000 || m.Dropped < 0 || m.Dropped > 1 {
				t.Errorf("%s, %s: %+v", row.Section, row.Traffic, m)
			}
		}
	}
	for _, c := range report.Comparisons {
		if hasTarget := c.AtMost != nil || c.AtLeast != nil; c.Void || c.Median == 0 || hasTarget != (c.Met != nil) {
			t.Errorf("%+v", c)
		}
	}
}

func TestRunPrograms(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, comparisonFile, sectionRun)
	rounds := map[string]int{}
	r.Progress = func(what string, round, of int) {
		if of != r.Rounds {
			t.Errorf("progress: round %d of %d, want of %d", round, of, r.Rounds)
		}
		rounds[what] = max(rounds[what], round)
	}
	report, err := r.run(t.Context())
	if err != nil {
		t.Fatalf("%+v", err)
	}
	checkFigures(t, report)
	wants := scenarios(1<<10, 1<<14)
	if len(report.Rows) != len(wants) || len(rounds) != len(wants) || len(report.Comparisons) != len(wants)+2 {
		t.Fatalf("%d rows, %d comparisons, progress of %d", len(report.Rows), len(report.Comparisons), len(rounds))
	}
	for i, row := range report.Rows {
		dropped := map[policy.Verdict]float64{policy.VerdictPass: 0, policy.VerdictDrop: 1}[wants[i].verdict]
		if m := row.Contenders[row.find(nameWeir)]; m.Dropped < dropped-0.01 || m.Dropped > dropped+0.01 {
			t.Errorf("%s: weir dropped %v", row.Traffic, m.Dropped)
		}
	}
	for what, n := range rounds {
		if n != r.Rounds {
			t.Errorf("progress of %q: ended with round %d of %d", what, n, r.Rounds)
		}
	}
	if m := report.Memory; m == nil || m.Sources != r.entries || m.Weir != 17*uint64(r.entries) {
		t.Errorf("memory: %+v", m)
	}
	if m := report.Machine; m.CPU == "" || m.Kernel == "" || m.CPUs < 1 {
		t.Errorf("machine: %+v", m)
	}
}

// The sections that need no comparison, and what they leave out says why.
func TestRunAlone(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, "", sectionPolicies, sectionCPUs, sectionLookup)
	report, err := r.run(t.Context())
	if err != nil {
		t.Fatalf("%+v", err)
	}
	checkFigures(t, report)
	wants := map[string]bool{
		nameEight: true, nameSelective: true, nameLRU: false, "weir, 10000 prefixes": true, "weir, 1000 bans": true,
		nameWeir + ", two CPUs": runtime.NumCPU() > 1,
	}
	for want, there := range wants {
		if got := contenders(report)[want]; got != there {
			t.Errorf("%s is measured: %v, want %v", want, got, there)
		}
	}
	for _, l := range report.LeftOut {
		if l.Why == "" || contenders(report)[l.What] {
			t.Errorf("left out: %+v", l)
		}
	}
	text, err := json.Marshal(report)
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%v: %s", err, text)
	}
}

func contenders(r *Report) map[string]bool {
	names := map[string]bool{}
	for _, row := range r.Rows {
		for _, m := range row.Contenders {
			names[m.Contender] = true
		}
	}
	return names
}

// A row must not quietly measure something cheaper than it says.
func TestWrongRowIsVoid(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(*scenario)
		void  []string // contenders
	}{
		{"weir passes what the row says is dropped", func(s *scenario) { s.verdict = policy.VerdictDrop }, []string{nameWeir}},
		{"so does the LRU", func(s *scenario) { s.lru = policy.VerdictDrop }, []string{nameLRU}},
		{"both drop what the row says is passed", func(s *scenario) { s.policies = []policy.Policy{miserly()} }, []string{nameWeir, nameLRU}},
		{"the table is too small for the sources", func(s *scenario) {
			// Three in four evict each other's debts, and pass.
			s.sources, s.entries, s.warmUp, s.verdict = 1<<12, 1<<10, 1<<17, policy.VerdictDrop
			s.policies = []policy.Policy{miserly()}
			s.policies[0].OnPressure = policy.PressurePass
		}, []string{nameWeir}},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.NoLeaks(t)
			r := newRunner(t, comparisonFile)
			s := scenarios(r.many, r.entries)[0]
			c.wrong(&s)
			cpus, err := lastCPUs(1)
			if err != nil {
				t.Fatal(err)
			}
			contest, err := r.scenarioContest(&s, cpus)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.hold(t.Context(), contest); err != nil {
				t.Fatal(err)
			}
			for _, name := range c.void {
				if m := r.report.Rows[0].Contenders[r.report.Rows[0].find(name)]; !strings.Contains(m.Void, ErrVerdict.Error()) {
					t.Errorf("%s: %+v, want it void", name, m)
				}
			}
			if r.report.Void() < len(c.void) || !r.report.Comparisons[len(r.report.Comparisons)-1].Void {
				t.Errorf("%d void: %+v", r.report.Void(), r.report)
			}
		})
	}
}

// counted is a program of which so many packets are known.
type counted struct {
	bare
	now tally
}

func (c counted) tally() (tally, error) { return c.now, nil }

func TestVerify(t *testing.T) {
	half := claim{verdict: policy.VerdictPass, low: 0.48, high: 0.52}
	for _, c := range []struct {
		name            string
		claim           claim
		passed, dropped uint64
		ok              bool
	}{
		{"all", all(policy.VerdictDrop), 0, 1000, true},
		{"just enough", all(policy.VerdictDrop), 10, 990, true},
		{"too few", all(policy.VerdictDrop), 11, 989, false},
		{"not all of them ran", all(policy.VerdictDrop), 0, 989, false},
		{"a repeated run", all(policy.VerdictDrop), 0, 1500, true},
		{"half of them count", half, 500, 0, true},
		{"more than half", half, 530, 0, false},
		{"less than half", half, 470, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := tally{policy.VerdictPass: 5000, policy.VerdictDrop: 7}
			now := tally{policy.VerdictPass: 5000 + c.passed, policy.VerdictDrop: 7 + c.dropped}
			l := &programLane{contender: counted{now: now}, claim: c.claim, before: before, turns: 4, size: 250, cpus: []int{0}}
			_, err := l.verify()
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrVerdict) {
				t.Errorf("error %v, want none: %v", err, c.ok)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	for _, section := range []string{sectionRun, sectionLive} {
		t.Run(section, func(t *testing.T) {
			testutil.NoLeaks(t)
			r := newRunner(t, "", section)
			r.Rounds = MaxRounds
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r.Progress = func(string, int, int) { cancel() }
			if _, err := r.run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want that it was cancelled", err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name            string
		rounds, packets int
		only            []string
	}{
		{"no round", 0, DefaultPackets, nil},
		{"too many rounds", MaxRounds + 1, DefaultPackets, nil},
		{"too few packets", DefaultRounds, MinPackets - 1, nil},
		{"too many packets", DefaultRounds, MaxPackets + 1, nil},
		{"no such section", DefaultRounds, DefaultPackets, []string{sectionRun, "walk"}},
	} {
		o := Options{Rounds: c.rounds, Packets: c.packets, Only: c.only}
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: error %v, want ErrOptions", c.name, err)
		}
	}
}

func TestComparisonFile(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.o")
	if err := os.WriteFile(garbage, []byte("not an object"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openComparison(comparisonFile); err != nil {
		t.Errorf("the object itself: %v", err)
	}
	if _, err := openComparison("missing.o"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := openComparison("driver_bpfel.o"); !errors.Is(err, ErrComparison) {
		t.Errorf("another object: %v", err)
	}
	if _, err := openComparison(garbage); err == nil {
		t.Error("garbage is accepted")
	}
}

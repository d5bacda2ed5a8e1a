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

const comparison = "../../bpf/bench/lru.bpf.o"

// newRunner makes a run that is over in a second or two.
func newRunner(t *testing.T, compare string) *runner {
	t.Helper()
	testutil.RequireRoot(t)
	r := &runner{Options: Options{Rounds: 3, Packets: 5_000, Compare: compare}, many: 1 << 10, entries: 1 << 14}
	if compare != "" {
		var err error
		if r.comparison, err = openComparison(compare); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestRun(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, comparison)
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
	checkRows(t, report)
	for what, n := range rounds {
		if n != r.Rounds {
			t.Errorf("progress of %q: ended with round %d of %d", what, n, r.Rounds)
		}
	}
	if len(rounds) != len(report.Rows)+1 {
		t.Errorf("progress of %d measurements, want one for each row and one for the policies", len(rounds))
	}
	if m := report.Memory; m == nil || m.Sources != r.entries || m.Weir != 16*uint64(r.entries) {
		t.Errorf("memory: %+v", m)
	}
	if m := report.Machine; m.CPU == "" || m.Kernel == "" || m.CPUs < 1 {
		t.Errorf("machine: %+v", m)
	}
	if report.Parallel != nil {
		t.Error("measured on two CPUs without being asked")
	}
}

func checkRows(t *testing.T, report *Report) {
	t.Helper()
	wants := scenarios(1<<10, 1<<14)
	if len(report.Rows) != len(wants) || len(report.Policies) != 3 {
		t.Fatalf("%d rows and %d for several policies, want %d and 3", len(report.Rows), len(report.Policies), len(wants))
	}
	for i, row := range report.Rows {
		want := wants[i]
		if row.Sources != want.sources || row.Verdict != want.verdict || row.Weir.Verdict != want.verdict || row.LRU.Verdict != want.lru {
			t.Errorf("row %d is %+v, want %s", i, row, &want)
		}
		for name, m := range map[string]Measured{"weir": row.Weir, "lru": *row.LRU} {
			if m.Share < minShare || m.Share > 1 || m.Median <= 0 || m.Min > m.Median || m.Median > m.Max {
				t.Errorf("%s: %s: %+v", &want, name, m)
			}
		}
		if hasTarget := row.Target != nil; hasTarget != (want.target > 0) || hasTarget != (row.Met != nil) {
			t.Errorf("%s: target %v, met %v", &want, row.Target, row.Met)
		}
	}
	for i, n := range []int{1, 2, 8} {
		if report.Policies[i].Policies != n || report.Policies[i].Weir.Median <= 0 {
			t.Errorf("several policies: row %d is %+v, want %d policies", i, report.Policies[i], n)
		}
	}
}

func TestRunAlone(t *testing.T) {
	testutil.NoLeaks(t)
	report, err := newRunner(t, "").run(t.Context())
	if err != nil {
		t.Fatalf("%+v", err)
	}
	for _, row := range report.Rows {
		if row.LRU != nil || row.Ratio != nil || row.Met != nil {
			t.Errorf("compared with nothing: %+v", row)
		}
	}
	text, err := json.Marshal(report)
	if err != nil || strings.Contains(string(text), "lru") || strings.Contains(string(text), "null") {
		t.Errorf("%v: %s", err, text)
	}
}

func TestParallel(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, comparison)
	rows, err := r.parallel(t.Context())
	if errors.Is(err, errTooFewCPUs) && runtime.NumCPU() < 2 {
		return // as it should be, on such a machine
	}
	if err != nil {
		t.Fatalf("%+v", err)
	}
	if len(rows) != 2 || rows[0].Verdict != policy.VerdictPass || rows[1].Verdict != policy.VerdictDrop {
		t.Errorf("rows: %+v", rows)
	}
}

// A row must not quietly measure something cheaper than it says.
func TestWrongRowFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(*scenario)
		want  string
	}{
		{"weir passes what the row says is dropped", func(s *scenario) { s.verdict = policy.VerdictDrop }, "verdict of weir on 0.0 %"},
		{"so does the LRU", func(s *scenario) { s.lru = policy.VerdictDrop }, "verdict of lru on 0.0 %"},
		{"weir drops what the row says is passed", func(s *scenario) { s.policies = []policy.Policy{miserly()} }, "verdict of weir on 0.0 %"},
		{"the table is too small for the sources", func(s *scenario) {
			// Three in four evict each other's debts, and pass.
			s.sources, s.entries, s.warmUp, s.verdict = 1<<12, 1<<10, 1<<17, policy.VerdictDrop
			s.policies = []policy.Policy{miserly()}
			s.policies[0].OnPressure = policy.PressurePass
		}, "verdict of weir on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.NoLeaks(t)
			r := newRunner(t, comparison)
			s := scenarios(r.many, r.entries)[0]
			c.wrong(&s)
			cpus, err := lastCPUs(1)
			if err != nil {
				t.Fatal(err)
			}
			row, err := r.row(t.Context(), &s, cpus)
			if !errors.Is(err, ErrVerdict) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("row %+v, error %v; want %q", row, err, c.want)
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
	for _, c := range []struct {
		name            string
		passed, dropped uint64
		ok              bool
	}{
		{"all", 0, 1000, true},
		{"just enough", 10, 990, true},
		{"too few", 11, 989, false},
		{"not all of them ran", 0, 999, false},
		{"a repeated run", 0, 1500, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := tally{policy.VerdictPass: 5000, policy.VerdictDrop: 7}
			now := tally{policy.VerdictPass: 5000 + c.passed, policy.VerdictDrop: 7 + c.dropped}
			l := &lane{contender: counted{now: now}, expect: policy.VerdictDrop, before: before}
			_, err := l.verify(1000)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrVerdict) {
				t.Errorf("error %v, want none: %v", err, c.ok)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, "")
	r.Rounds = MaxRounds
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.Progress = func(string, int, int) { cancel() }
	if _, err := r.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name            string
		rounds, packets int
	}{
		{"no round", 0, DefaultPackets},
		{"too many rounds", MaxRounds + 1, DefaultPackets},
		{"too few packets", DefaultRounds, MinPackets - 1},
		{"too many packets", DefaultRounds, MaxPackets + 1},
	} {
		if _, err := Run(t.Context(), Options{Rounds: c.rounds, Packets: c.packets}); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: error %v, want ErrOptions", c.name, err)
		}
	}
}

func TestComparisonFile(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.o")
	if err := os.WriteFile(garbage, []byte("not an object"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openComparison(comparison); err != nil {
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

package netns

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/test/internal/bpfclock"
)

// The kernel's verdicts on real packets are those of the Go twin on what the program read off its clocks: packet by packet,
// exactly. And so is the bucket that is left.
func TestVerdictsAreThoseOfTheTwin(t *testing.T) {
	for _, test := range []struct {
		rate, burst uint64
		unit        policy.Unit
		load        lab.Load
	}{
		{10, 3, policy.UnitRequests, lab.Load{Duration: time.Second}},
		{1000, 1, policy.UnitRequests, lab.Load{Duration: time.Second / 2}},
		{30_000, 10, policy.UnitRequests, lab.Load{Duration: time.Second / 2}},
		{1_000_000, 5, policy.UnitRequests, lab.Load{Duration: time.Second / 4}},
		{5000, 40, policy.UnitRequests, lab.Load{Rate: 5200, Duration: time.Second}}, // at its limit: the bucket is full at times
		{20_000, 4000, policy.UnitRequests, lab.Load{Duration: time.Second / 2}},     // with leases
		{10_000_000, 6000, policy.UnitBytes, lab.Load{Duration: time.Second / 2}},
		{10_000_000, 600_000, policy.UnitBytes, lab.Load{Duration: time.Second / 2}},
	} {
		for _, mode := range []loader.Mode{loader.ModeNative, loader.ModeGeneric} {
			t.Run(fmt.Sprintf("%d %s/s burst %d %s", test.rate, test.unit, test.burst, mode), func(t *testing.T) {
				r := newRig(t, lab.PairSpec{})
				clock := r.attachRecorded(mode, r.policies("p0", test.rate, test.burst, test.unit)...)
				frame, tokens := r.frame(r.A.IPv4, nil), uint64(1)
				if test.unit == policy.UnitBytes {
					tokens = uint64(len(frame))
				}
				f := &flood{frames: [][]byte{frame}, load: test.load, from: r.A}
				if err := pinned(r.within(limit), allowedCPUs(t)[0], f.run); err != nil {
					t.Fatal(err)
				}
				r.awaitSeen(f.sent())
				runs, err := clock.Runs()
				if err != nil || uint64(len(runs)) != f.sent() {
					t.Fatalf("%d runs recorded of %d: %v", len(runs), f.sent(), err)
				}
				r.expectTwin(runs, twinRate(t, test.rate, test.burst), jiffyTime(t), tokens)
			})
		}
	}
}

// attachRecorded attaches weir's program with a clock that takes down what it says.
func (r *rig) attachRecorded(mode loader.Mode, policies ...policy.Policy) *bpfclock.Clock {
	r.Helper()
	clock, err := bpfclock.New()
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := clock.Close(); err != nil {
			r.Error(err)
		}
	})
	spec := objects(r.T)
	program := spec.Programs["weir_xdp"]
	if clock.Inject(program) == 0 {
		r.Fatal("the program reads no clock")
	}
	if err := clock.Record(program); err != nil {
		r.Fatal(err)
	}
	if err := r.attachObjects(mode, spec, policies...); err != nil {
		r.Fatalf("%+v", err)
	}
	return clock
}

// twinRate is the rate of a limit per second, as the loader makes it for this machine.
func twinRate(t *testing.T, limit, burst uint64) *bucket.Rate {
	t.Helper()
	l, err := bucket.NewLimit(limit, time.Second, burst)
	if err != nil {
		t.Fatal(err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	rate := bucket.NewRate(l, cpus, jiffyTime(t))
	return &rate
}

// jiffyTime is how long a jiffy takes here.
func jiffyTime(t *testing.T) time.Duration {
	t.Helper()
	var tick unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick); err != nil {
		t.Fatal(err)
	}
	return time.Duration(tick.Nano())
}

// expectTwin replays what was recorded. The program reads a clock only if something depends on it; so does the twin, to
// which a clock that was not read says 0.
func (r *rig) expectTwin(runs []bpfclock.Run, rate *bucket.Rate, jiffy time.Duration, tokens uint64) {
	r.Helper()
	const hash = 1 << 32 // there is one source only
	table, err := bucket.NewTable(make([]byte, bucket.SetSize))
	if err != nil {
		r.Fatal(err)
	}
	slots := bucket.Slots{Table: table}
	var passed, exact, jiffies int
	for i, run := range runs {
		now := bucket.Clock{Exact: bucket.AtNanoseconds(run.Exact), Jiffies: run.Jiffies, Jiffy: jiffy}
		admitted := slots.Take(hash, rate, now, tokens, true)&bucket.Admitted != 0
		if admitted != (run.Verdict == xdpPass) {
			r.Fatalf("packet %d of %d, at %+v: the kernel's verdict is %d, the twin's the contrary", i, len(runs), run, run.Verdict)
		}
		passed += number(admitted)
		exact += number(run.Exact != 0)
		jiffies += number(run.Jiffies != 0)
	}
	r.Logf("%d packets, %d passed; %d read the exact clock, %d the jiffies", len(runs), passed, exact, jiffies)
	kernel, twin := r.onlyEntry(), oneEntry(r.T, table)
	if kernel.TAT != twin.TAT || kernel.Used != twin.Used {
		r.Errorf("the bucket's TAT is %d and its use %d, the twin's %d and %d", kernel.TAT, kernel.Used, twin.TAT, twin.Used)
	}
}

func number(is bool) int {
	if is {
		return 1
	}
	return 0
}

const xdpPass = 2 // enum xdp_action

// onlyEntry is the one entry in the kernel's table.
func (r *rig) onlyEntry() bucket.Entry {
	r.Helper()
	d, err := loader.Open(r.state)
	if err != nil {
		r.Fatal(err)
	}
	table, err := d.OpenBuckets()
	if err != nil {
		r.Fatal(err)
	}
	defer table.Close()
	return oneEntry(r.T, table.Table)
}

func oneEntry(t *testing.T, table *bucket.Table) (only bucket.Entry) {
	t.Helper()
	n := 0
	for e := range table.Entries() {
		only = e
		n++
	}
	if n != 1 {
		t.Fatalf("a table has %d entries, want 1", n)
	}
	return only
}

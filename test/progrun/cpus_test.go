package progrun

import (
	"cmp"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/test/internal/bpfclock"
)

// What the slots promise: in any interval t, all CPUs together admit no more of a source than burst + rate * t + CPUs * lease;
// also where several sources share a slot, and take it from one another all the time. And no token is counted twice: what a
// bucket gave is what passed, and what CPUs still hold.
func TestAllCPUsHoldTheLeaseBound(t *testing.T) {
	for _, test := range []struct {
		rate, burst uint64
		unit        policy.Unit
		sources     int // that share a slot
	}{
		{1, 100_000, policy.UnitRequests, 1},
		{20_000, 4000, policy.UnitRequests, 1},
		{1_000_000, 20_000, policy.UnitRequests, 1},
		{5000, 2000, policy.UnitRequests, 3},
		{3000, 700, policy.UnitRequests, 2},
		{50_000_000, 2_000_000, policy.UnitBytes, 1},
		{300_000, 200_000, policy.UnitBytes, 3},
		{1000, 8, policy.UnitRequests, 2}, // no lease
	} {
		t.Run(fmt.Sprintf("%d %s a second, burst %d, %d sources", test.rate, test.unit, test.burst, test.sources), func(t *testing.T) {
			p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: test.rate, Window: time.Second, Burst: test.burst, Unit: test.unit}.WithDefaults()
			r := newRace(t, p, sharingASlot(t, p, test.sources))
			r.run(t)
			for i, source := range r.sources {
				r.expectBound(t, source, r.runsOf(i))
			}
		})
	}
}

// race runs the program on every CPU at once.
type race struct {
	rule    rule
	cost    uint64 // tokens of a frame
	cpus    int
	sources []netip.Addr
	frames  [][]byte
	program *loader.Standalone
	trace   *bpfclock.Trace
	runs    [][]bpfclock.Traced // of each CPU
}

// turns are how often each CPU begins a repeated run, and how often it repeats it. The kernel takes milliseconds to begin one, but not
// if it is of one packet: sources that share a slot take turns with each.
func (r *race) turns() (turns int, repeat uint32) {
	if len(r.sources) == 1 {
		return 4, 100_000
	}
	return 30_000, 1
}

func newRace(t *testing.T, p policy.Policy, sources []netip.Addr) *race {
	t.Helper()
	r := &race{cpus: runtime.NumCPU(), sources: sources, cost: 1}
	var err error
	if r.rule, err = newRule(p, loader.HookXDP); err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		r.frames = append(r.frames, bytesOf(t, udp(source.String())))
	}
	if p.Unit == policy.UnitBytes {
		r.cost = uint64(len(r.frames[0]))
	}
	if r.trace, err = bpfclock.NewTrace(r.cpus); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.trace.Close(); err != nil {
			t.Error(err)
		}
	})
	objects, err := loader.ObjectsOf(loader.HookXDP)
	if err != nil {
		t.Fatal(err)
	}
	r.trace.Wrap(objects.Programs["weir_xdp"])
	r.program, err = loader.LoadStandalone(loader.StandaloneOptions{Policies: []policy.Policy{p}, TableEntries: 1024, Objects: objects})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { r.program.Close() })
	return r
}

// sharingASlot finds sources that every CPU keeps in the same slot.
func sharingASlot(t *testing.T, p policy.Policy, n int) (sources []netip.Addr) {
	t.Helper()
	rule, err := newRule(p, loader.HookXDP)
	if err != nil {
		t.Fatal(err)
	}
	slot := func(a netip.Addr) uint32 { return bucket.SlotIndex(rule.key.Hash(rule.mask, a)) }
	first := netip.MustParseAddr("10.0.0.1")
	for a := first; len(sources) < n; a = a.Next() {
		if slot(a) == slot(first) {
			sources = append(sources, a)
		}
	}
	return sources
}

// run has each CPU send the sources' frames in turn, as fast as it goes.
func (r *race) run(t *testing.T) {
	t.Helper()
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	turns, repeat := r.turns()
	for cpu := range r.cpus {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread keeps its affinity, and ends with the goroutine
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				t.Errorf("pin to CPU %d: %v", cpu, err)
			}
			ready.Done()
			<-start
			for i := range turns {
				if _, err := r.program.Program().Run(&ebpf.RunOptions{Data: r.frames[i%len(r.frames)], Repeat: repeat}); err != nil {
					t.Errorf("run on CPU %d: %v", cpu, err)
					return
				}
			}
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	var err error
	if r.runs, err = r.trace.Runs(); err != nil {
		t.Fatal(err)
	}
	for cpu, runs := range r.runs {
		// A repeated run that a signal interrupts begins anew; one of a single packet can't be.
		if want := turns * int(repeat); len(runs) < want || len(runs) > want && repeat == 1 {
			t.Fatalf("CPU %d ran the program %d times, want %d", cpu, len(runs), want)
		}
	}
}

// runsOf are the runs of one source, of all CPUs.
func (r *race) runsOf(source int) (own []bpfclock.Traced) {
	for _, runs := range r.runs {
		for i, run := range runs {
			if i%len(r.frames) == source { // if there are several, each turn is one run
				own = append(own, run)
			}
		}
	}
	return own
}

// expectBound holds that a source was admitted no more in any interval than it may be, and that its bucket knows.
func (r *race) expectBound(t *testing.T, source netip.Addr, runs []bpfclock.Traced) {
	t.Helper()
	runs = slices.DeleteFunc(runs, func(run bpfclock.Traced) bool { return run.Verdict != xdpPass })
	limit := r.rule.rate.Limit
	perSecond := float64(time.Second) * 256 / float64(limit.TokenTime) * float64(uint64(1)<<limit.FracBits)
	worst := mostAbove(runs, float64(r.cost), perSecond)
	bound := float64(limit.Burst) + float64(r.cpus)*float64(r.rule.rate.Lease)
	b := bucketOf(t, r.program, source)
	got := uint64(len(runs)) * r.cost
	t.Logf("%v: %d tokens, at worst %.1f beyond the rate, %.0f allowed; %d leased", source, got, worst, bound, b.Leased)
	if worst > bound+1 { // a token time is rounded to a tick
		t.Errorf("%v was admitted %.1f tokens more than rate * t in an interval, want burst + CPUs * lease = %.0f at most", source, worst, bound)
	}
	if given := uint64(b.Used) - b.Leased; !b.Found || given != got {
		t.Errorf("the bucket of %v gave %d tokens for packets (found: %v), %d of them passed", source, given, b.Found, got)
	}
	if c := counters(t, r.program); c.Pressure > 0 {
		t.Errorf("pressure %d: a bucket may have been forgotten", c.Pressure)
	}
}

// mostAbove is the largest number of tokens, in any interval t, by which what passed exceeds rate * t.
//
// A run decided between its entry and its exit. Of runs sorted by their exit, those from i to j decided between the first entry
// among them and the exit of j; the first entry among i and all that follow is no later.
func mostAbove(runs []bpfclock.Traced, cost, perSecond float64) (worst float64) {
	slices.SortFunc(runs, func(a, b bpfclock.Traced) int { return cmp.Compare(a.Exit, b.Exit) })
	if len(runs) == 0 {
		return 0
	}
	begin := runs[0].Entry
	for _, run := range runs {
		begin = min(begin, run.Entry)
	}
	gained := func(ns uint64) float64 { return perSecond * float64(ns-begin) / float64(time.Second) }
	first := make([]uint64, len(runs)) // the first entry from here on
	for i, next := len(runs)-1, ^uint64(0); i >= 0; i-- {
		next = min(next, runs[i].Entry)
		first[i] = next
	}
	least := 0.0 // of what had passed before an interval began, less what was gained by then
	for i, run := range runs {
		least = min(least, cost*float64(i)-gained(first[i]))
		worst = max(worst, cost*float64(i+1)-gained(run.Exit)-least)
	}
	return worst
}

// mostAbove finds what it is to find.
func TestMostAboveFindsABurst(t *testing.T) {
	const ms = uint64(time.Millisecond)
	var runs []bpfclock.Traced
	for i := range uint64(100) { // one a millisecond
		runs = append(runs, bpfclock.Traced{Entry: i * ms, Exit: i*ms + 10})
	}
	if got := mostAbove(slices.Clone(runs), 1, 1000); got > 1.001 || got < 0.9 {
		t.Errorf("a steady flow at the rate is %.3f above it, want 1 packet", got)
	}
	for range 50 { // and at once
		runs = append(runs, bpfclock.Traced{Entry: 30*ms + 1, Exit: 30*ms + 9})
	}
	if got := mostAbove(runs, 1, 1000); got < 50.9 || got > 51.1 {
		t.Errorf("50 packets beside the flow are %.3f above the rate, want 51", got)
	}
}

package progrun

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/test/internal/bpfclock"
)

const (
	// framesPerScenario is how many packets go through one program: to load it takes as long as to run thousands.
	framesPerScenario = 3000
	// framesPerFuzz is the same where the fuzzer chooses.
	framesPerFuzz = 300
	// framesPerLook is after how many packets the tables are compared.
	framesPerLook = 100
)

// Random policies, packets and clocks go through the shipped program and through a reference in Go. Verdict for verdict they
// agree, and so do the counters and every entry of the bucket table.
//
// WEIR_DIFFERENTIAL sets for how long, WEIR_DIFFERENTIAL_SEED the one scenario to run again.
func TestDifferential(t *testing.T) {
	if seed, ok := os.LookupEnv("WEIR_DIFFERENTIAL_SEED"); ok {
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatalf("WEIR_DIFFERENTIAL_SEED: %v", err)
		}
		t.Log(differ(t, choicesOfSeed(n), framesPerScenario))
		return
	}
	sum := tally{}
	start, scenarios := time.Now(), uint64(0)
	for d := differentialTime(t); time.Since(start) < d && !t.Failed(); scenarios++ {
		t.Run(fmt.Sprintf("seed=%d", scenarios), func(t *testing.T) {
			sum.add(differ(t, choicesOfSeed(scenarios), framesPerScenario))
		})
	}
	t.Logf("%d scenarios of %d packets (WEIR_DIFFERENTIAL_SEED runs one of them again): %v", scenarios, framesPerScenario, sum)
	for what, n := range sum {
		if n == 0 && scenarios >= 20 {
			t.Errorf("no packet met %q: this test tested little", what)
		}
	}
}

// tally is how often what happened.
type tally map[string]uint64

func (t tally) add(other tally) {
	for what, n := range other {
		t[what] += n
	}
}

// tally of a scenario, once it has been played.
func (d *duel) tally() tally {
	c := d.reference.count
	sum := tally{"pressure": c.Pressure, "decided by a slot": d.bySlot, "paced": d.paced}
	for name, verdicts := range c.Policies {
		for verdict, n := range verdicts {
			sum[string(verdict)] += n.Packets
		}
		sum["strangers"] += c.Strangers[name]
	}
	for reason, n := range c.Unparsed {
		sum[reason] += n
	}
	for list, n := range c.Listed {
		sum[list] += n.Packets
	}
	return sum
}

func differentialTime(t *testing.T) time.Duration {
	t.Helper()
	text, ok := os.LookupEnv("WEIR_DIFFERENTIAL")
	if !ok {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("WEIR_DIFFERENTIAL: %v (want a duration, such as 10m)", err)
	}
	return d
}

// The same, where the fuzzer chooses: go test ./test/progrun -fuzz FuzzDifferential
func FuzzDifferential(f *testing.F) {
	f.Fuzz(func(t *testing.T, choices []byte) {
		differ(t, choicesOfBytes(choices), framesPerFuzz)
	})
}

// differ runs one scenario.
func differ(t *testing.T, c *choices, frames int) tally {
	t.Helper()
	jiffy, err := bpfclock.Jiffy()
	if err != nil {
		t.Fatal(err)
	}
	d := newDuel(t, newScenario(c, jiffy))
	for i := range frames {
		if i%framesPerLook == 0 {
			d.compare(t)
		}
		if d.send(t); t.Failed() {
			t.Fatalf("packet %d of\n%v", i, d.scenario)
		}
	}
	d.compare(t)
	if t.Failed() {
		t.Fatalf("after %d packets of\n%v", frames, d.scenario)
	}
	return d.tally()
}

// duel is a scenario, and the two that it is played on.
type duel struct {
	*scenario
	reference *reference
	program   *loader.Standalone
	clock     *bpfclock.Clock
	cpus      *affinity
	paced     uint64
	bySlot    uint64 // packets that were charged without a look at the exact clock, and so at the table
}

func newDuel(t *testing.T, s *scenario) *duel {
	t.Helper()
	if faults := (policy.Document{Policies: s.policies, Allow: s.lists.Allow, Deny: s.lists.Deny}).Validate(); len(faults) > 0 {
		t.Fatalf("a scenario that nobody could load: %v\n%v", faults, s)
	}
	reference, err := newReference(s)
	if err != nil {
		t.Fatal(err)
	}
	d := &duel{scenario: s, reference: reference, cpus: newAffinity(t)}
	d.program, d.clock = loadClocked(t, loader.StandaloneOptions{
		Hook: s.hook, Policies: policy.KernelPoliciesAt(s.policies, s.place()), Allow: s.lists.Allow, Deny: s.lists.Deny, TableEntries: s.entries,
	})
	banFor(t, d.program.Program(), s.bans)
	return d
}

// loadClocked loads the shipped program with a clock that the test sets.
func loadClocked(t *testing.T, o loader.StandaloneOptions) (*loader.Standalone, *bpfclock.Clock) {
	t.Helper()
	testutil.RequireRoot(t)
	clock, err := bpfclock.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clock.Close(); err != nil {
			t.Error(err)
		}
	})
	if o.Objects, err = loader.ObjectsOf(o.Hook); err != nil {
		t.Fatal(err)
	}
	for _, program := range o.Objects.Programs {
		if clock.Inject(program) == 0 {
			t.Fatalf("the program %s reads no clock", program.Name)
		}
	}
	s, err := loader.LoadStandalone(o)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, clock
}

// send sends one packet through both, and compares the verdicts.
func (d *duel) send(t *testing.T) {
	t.Helper()
	if d.oneIn(16) {
		d.cpus.change(t, pick(d.choices, d.cpus.all))
	}
	frame := d.frame()
	now := d.now()
	d.clock.Set(now)
	got, departure := d.run(t, frame)
	charged := d.reference.charges
	want := d.reference.run(d.cpus.now, frame, now)
	if read := d.clock.Read(); read.Exact == 0 && d.reference.charges > charged {
		d.bySlot++
	}
	if delay := uint64((d.reference.delay + bucket.AtNanoseconds(1) - 1).Duration()); got == xdpPass && delay > 0 {
		if departure != now.Exact+delay {
			t.Errorf("the packet is to depart at %d, want %d", departure, now.Exact+delay)
		}
		d.paced++
	} else if departure != 0 {
		t.Errorf("the packet is to depart at %d, want no delay", departure)
	}
	if got != want {
		t.Errorf("the program's verdict is %d, the reference's %d, at %+v on CPU %d, of the frame %x",
			got, want, now, d.cpus.now, frame[:min(len(frame), 100)])
	}
}

// run has the program decide over a frame: the verdict as XDP says it, and the departure in ns, 0 if it was given none.
func (d *duel) run(t *testing.T, frame []byte) (verdict uint32, departure uint64) {
	t.Helper()
	if d.hook == loader.HookXDP {
		return send(t, d.program, frame), 0
	}
	tc := tcProgram{T: t, Standalone: d.program, hook: d.hook}
	action, after := tc.run(frame, skb{})
	if action == tcDrop {
		return xdpDrop, after.Departure
	}
	return xdpPass, after.Departure
}

// compare compares the counters, and the tables entry by entry.
func (d *duel) compare(t *testing.T) {
	t.Helper()
	got := counters(t, d.program)
	if slices.ContainsFunc(d.policies, func(p policy.Policy) bool { return p.NewSources != nil }) {
		// The strangers' bucket can meet pressure too, for the same packet.
		got.Pressure, d.reference.count.Pressure = 0, 0
	}
	if diff := cmp.Diff(d.reference.count, got); diff != "" {
		t.Errorf("counters (-reference +program):\n%s", diff)
	}
	if diff := cmp.Diff(entries(d.reference.table), entries(d.program.Table().Table)); diff != "" {
		t.Errorf("table (-reference +program):\n%s", diff)
	}
}

func entries(table *bucket.Table) (all []bucket.Entry) { return slices.Collect(table.Entries()) }

// affinity holds the test's thread on one CPU at a time.
type affinity struct {
	all []int
	now int
}

func newAffinity(t *testing.T) *affinity {
	t.Helper()
	runtime.LockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
	a := &affinity{}
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			a.all = append(a.all, cpu)
		}
	}
	a.change(t, a.all[0])
	return a
}

func (a *affinity) change(t *testing.T, cpu int) {
	t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Fatalf("move to CPU %d: %v", cpu, err)
	}
	a.now = cpu
}

// banFor writes timed bans into a program's maps: for each prefix the latest end of those that cover it.
func banFor(t *testing.T, program *ebpf.Program, bans map[netip.Prefix]uint64) {
	t.Helper()
	if len(bans) == 0 {
		return
	}
	var count [2]uint32
	for prefix, own := range bans {
		until := own
		for around, end := range bans {
			if around.Bits() <= prefix.Bits() && around.Contains(prefix.Addr()) {
				until = max(until, end)
			}
		}
		family, name := 0, "bans4"
		if prefix.Addr().Is6() {
			family, name = 1, "bans6"
		}
		count[family]++
		key := append(binary.NativeEndian.AppendUint32(nil, uint32(prefix.Bits())), prefix.Addr().AsSlice()...)
		if err := mapOf(t, program, name).Put(key, [2]uint64{until, own}); err != nil {
			t.Fatalf("ban %v: %v", prefix, err)
		}
	}
	control := binary.NativeEndian.AppendUint64(nil, 0) // nobody listens to events
	control = binary.NativeEndian.AppendUint32(control, count[0])
	control = binary.NativeEndian.AppendUint32(control, count[1])
	if err := mapOf(t, program, ".data.control").Put(uint32(0), control); err != nil {
		t.Fatal(err)
	}
}

// mapOf opens a map of a program by its name.
func mapOf(t *testing.T, program *ebpf.Program, name string) *ebpf.Map {
	t.Helper()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := m.Info(); err == nil && strings.HasSuffix(info.Name, name) {
			t.Cleanup(func() { m.Close() })
			return m
		}
		m.Close()
	}
	t.Fatalf("the program has no map %s", name)
	return nil
}

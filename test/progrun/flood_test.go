package progrun

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/bench"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Ten million invented sources, among them one that floods and one that keeps to its limit. A tenth of them with -short.
func TestSpoofedFlood(t *testing.T) {
	// Few long rounds: the kernel takes milliseconds to begin and to end a repeated run.
	const spoofed, sent, burst, rate = 100_000, 10, 200, 1000
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: rate, Window: time.Second, Burst: burst}.WithDefaults()
	s := loadProgram(t, 1<<20, p)
	spoofer, err := bench.NewSpoofer(s.Program())
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer spoofer.Close()
	aggressor, good := bytesOf(t, udp("198.51.100.1")), bytesOf(t, udp("198.51.100.2"))

	start := loader.Now()
	admitted := passed(t, s, burst, aggressor)
	refused := 0 // of the good client's packets
	for range rounds {
		if err := spoofer.Send(spoofed); err != nil {
			t.Fatal(err)
		}
		admitted += passed(t, s, 20*sent, aggressor)
		refused += sent - passed(t, s, sent, good)
	}
	elapsed := (loader.Now() - start).Duration()

	if refused > 0 {
		t.Errorf("the good client lost %d of %d packets", refused, rounds*sent)
	}
	if most := burst + int(elapsed*rate/time.Second) + 1; admitted > most {
		t.Errorf("the aggressor got %d packets through in %v, want %d at most", admitted, elapsed, most)
	}
	// Its entry counts since the claim: had it been evicted, it would have begun anew.
	got := bucketOf(t, s, udp("198.51.100.1").Src)
	if given := int(uint64(got.Used) - got.Leased); !got.Found || given != admitted {
		t.Errorf("the aggressor's entry has given %d packets (found: %v), want all %d", given, got.Found, admitted)
	}
	c := counters(t, s)
	if c.Pressure != 0 || c.Contended != 0 {
		t.Errorf("pressure %d, contended %d; want none", c.Pressure, c.Contended)
	}
	if n := c.Policies["p"][policy.VerdictPass].Packets; n < uint64(rounds*spoofed) {
		t.Errorf("%d packets passed, want all %d strangers among them", n, rounds*spoofed)
	}
}

// onEveryCPU runs the program on the same packet on all CPUs at once.
func onEveryCPU(t *testing.T, s *loader.Standalone, frame []byte, repeat uint32) {
	t.Helper()
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for cpu := range runtime.NumCPU() {
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
			if _, err := s.Program().Run(&ebpf.RunOptions{Data: frame, Repeat: repeat}); err != nil {
				t.Errorf("run on CPU %d: %v", cpu, err)
			}
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}

// Two CPUs on one source admit one bucket: not a packet more, and not one less.
func TestAllCPUsShareOneBucket(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Log("only one CPU here: nothing runs at the same time")
	}
	const burst, repeat = 100_000, 2_000_000
	s := loadProgram(t, 1024, slow("p", burst))
	start := loader.Now()
	onEveryCPU(t, s, bytesOf(t, udp("192.0.2.1")), repeat)
	c := counters(t, s)
	t.Logf("%d packets on %d CPUs, %d lost every compare-and-swap", repeat*runtime.NumCPU(), runtime.NumCPU(), c.Contended)
	// A token comes back within 0.9 s, which the run may take.
	back := uint64((loader.Now() - start).Duration() * burst / (24 * time.Hour))
	if n := c.Policies["p"][policy.VerdictPass].Packets; n < burst || n > burst+back+1 {
		t.Errorf("%d packets passed, want the burst of %d and at most the %d that came back", n, burst, back+1)
	}
}

func TestAllCPUsShareOneRate(t *testing.T) {
	const rate, burst = 1_000_000, 1000
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: rate, Window: time.Second, Burst: burst}.WithDefaults()
	s := loadProgram(t, 1024, p)
	start := loader.Now()
	onEveryCPU(t, s, bytesOf(t, udp("192.0.2.1")), 5_000_000)
	elapsed := (loader.Now() - start).Duration()
	n := counters(t, s).Policies["p"][policy.VerdictPass].Packets
	want := burst + uint64(elapsed*rate/time.Second)
	t.Logf("%d packets passed in %v, %d is the limit", n, elapsed, want)
	if n > want+1 {
		t.Errorf("%d packets passed in %v, want %d at most", n, elapsed, want)
	}
}

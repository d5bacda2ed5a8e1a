package netns

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// pinned runs something on one CPU. Frames over a veth are received on the CPU that sent them.
func pinned(ctx context.Context, cpu int, run func(context.Context) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- err
			return
		}
		done <- run(ctx)
	}()
	return <-done
}

// allowedCPUs are those that this process may run on.
func allowedCPUs(t *testing.T) (cpus []int) {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// One source that floods from two CPUs at once has one bucket, exactly: not one per CPU.
func TestTwoCPUsShareOneBucket(t *testing.T) {
	cpus := allowedCPUs(t)
	if len(cpus) < 2 {
		t.Skipf("needs two CPUs, this process has %v", cpus)
	}
	for _, test := range []struct {
		name, policy string
		rate         float64
		burst        uint64
	}{
		{"burst alone", "limit: 1, window: 1s, burst: 100000", 1, 100_000},
		{"rate", "limit: 20000, window: 1s, burst: 2000", 20_000, 2000},
	} {
		for _, mode := range []string{"native", "generic"} {
			t.Run(test.name+" "+mode, func(t *testing.T) {
				r := newRig(t, lab.PairSpec{Queues: 2})
				r.attach(mode, test.policy)
				sniffer := r.sniff()
				floods := r.floodFrom(cpus[:2], time.Second)
				first, second := floods[0], floods[1]
				r.awaitSeen(first.sent() + second.sent())
				first.start, first.end = minTime(first.start, second.start), time.Now()

				passed := r.counters().Policies["p0"][policy.VerdictPass].Packets
				arrived := from(r.arrivals(sniffer, passed), r.A.IPv4)
				t.Logf("sent %d and %d, by CPU %v, contended %d", first.sent(), second.sent(), r.byCPU(), r.counters().Contended)
				// No less than the first flood alone would have got.
				r.expectRate(first, arrived, test.rate, test.burst, 1)
				if n := r.used("p0", r.A.IPv4); n != arrived {
					t.Errorf("the bucket gave %d tokens for packets, %d packets arrived", n, arrived)
				}
				for _, cpu := range cpus[:2] {
					if r.byCPU()[cpu] == 0 {
						t.Errorf("CPU %d decided on no packet: this test tested nothing", cpu)
					}
				}
			})
		}
	}
}

// Several CPUs go on sharing one bucket while the policies are replaced all the time: what CPUs have leased from it goes over
// to the next program, and is spent only once.
func TestTwoCPUsShareOneBucketUnderReload(t *testing.T) {
	cpus := allowedCPUs(t)
	if len(cpus) < 2 {
		t.Skipf("needs two CPUs, this process has %v", cpus)
	}
	const rate, burst = 20_000, 4000
	limited := fmt.Sprintf("name: p0, limit: %d, window: 1s, burst: %d", rate, burst)
	sets := [][]string{{limited}, {limited, "name: shadow, limit: 500, window: 1s, mode: shadow"}}
	r := newRig(t, lab.PairSpec{Queues: 2})
	r.attach("native", sets[0]...)
	sniffer := r.sniff()
	reloads := 0
	reloaded, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reloaded)
		for ; ; reloads++ {
			select {
			case <-stop:
				return
			default:
				if res := r.weir("attach", r.B.Interface, "-c", r.config(sets[reloads%2]...)); res.code != 0 {
					t.Errorf("reload %d: %v", reloads, res)
					return
				}
			}
		}
	}()
	floods := r.floodFrom(cpus[:2], time.Second)
	close(stop)
	<-reloaded
	first, second := floods[0], floods[1]
	r.awaitSeen(first.sent() + second.sent())
	first.start, first.end = minTime(first.start, second.start), time.Now()
	passed := r.counters().Policies["p0"][policy.VerdictPass].Packets
	arrived := from(r.arrivals(sniffer, passed), r.A.IPv4)
	t.Logf("%d reloads, sent %d and %d, by CPU %v", reloads, first.sent(), second.sent(), r.byCPU())
	r.expectRate(first, arrived, rate, burst, 1)
	if n := r.used("p0", r.A.IPv4); n != arrived {
		t.Errorf("the bucket gave %d tokens for packets, %d packets arrived", n, arrived)
	}
	if reloads < 2 {
		t.Errorf("%d reloads: this test tested nothing", reloads)
	}
}

// floodFrom floods from several CPUs at once, as fast as it goes.
func (r *rig) floodFrom(cpus []int, d time.Duration) (floods []*flood) {
	r.Helper()
	var g errgroup.Group
	for _, cpu := range cpus {
		f := &flood{frames: [][]byte{r.frame(r.A.IPv4, nil)}, load: lab.Load{Duration: d}, from: r.A}
		floods = append(floods, f)
		ctx := r.within(limit)
		g.Go(func() error { return pinned(ctx, cpu, f.run) })
	}
	if err := g.Wait(); err != nil {
		r.Fatal(err)
	}
	return floods
}

// byCPU is how many packets each CPU decided on.
func (r *rig) byCPU() (packets []uint64) {
	r.Helper()
	d, err := loader.Open(r.state)
	if err != nil {
		r.Fatal(err)
	}
	stats, err := d.PolicyStats()
	if err != nil {
		r.Fatal(err)
	}
	for _, cpu := range stats[0].CPUs {
		packets = append(packets, cpu[policy.VerdictPass].Packets+cpu[policy.VerdictDrop].Packets)
	}
	return packets
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

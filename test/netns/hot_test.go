package netns

import (
	"context"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// hotRig is a rig on which the one policy is reconciled, and somebody listens.
type hotRig struct {
	*rig
	policy  loader.LoadedPolicy
	buckets *loader.Buckets
	sources *loader.HotSources

	mu    sync.Mutex
	heard []heard
}

// heard is an announcement, and how long it took to be told.
type heard struct {
	loader.Hot
	after time.Duration
}

func newHotRig(t *testing.T, p policy.Policy) *hotRig {
	t.Helper()
	r := &hotRig{rig: newRig(t, lab.PairSpec{})}
	p.Consistency = policy.ConsistencyReconciled
	if err := r.attachObjects(loader.ModeNative, nil, p); err != nil {
		t.Fatal(err)
	}
	r.xdp()
	d, err := loader.Open(r.state)
	if err != nil {
		t.Fatal(err)
	}
	all, err := r.attachments()
	if err != nil || len(all) != 1 || len(all[0].Policies) != 1 {
		t.Fatalf("attached is %+v, %v", all, err)
	}
	r.policy = all[0].Policies[0]
	if r.buckets, err = d.OpenBuckets(); err != nil {
		t.Fatal(err)
	}
	if r.sources, err = d.OpenHot(filepath.Join(r.dir, "run")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.sources.Close(); err != nil {
			t.Error(err)
		}
		if err := r.buckets.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// listen runs the listener until stop, or the end of the test.
func (r *hotRig) listen(shift uint8) (stop func()) {
	r.Helper()
	r.sources.SetShift(r.policy.Slot, shift)
	return r.background(func(ctx context.Context) error {
		return r.sources.Run(ctx, func(h loader.Hot) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.heard = append(r.heard, heard{h, loader.Monotonic() - h.Time})
		})
	})
}

// settled waits until every announcement that the programs made has been heard, by one of a source that nobody else is.
func (r *hotRig) settled(source netip.Addr) []heard {
	r.Helper()
	r.sources.SetShift(r.policy.Slot, 0)
	r.await("the last announcement is heard", func() bool {
		r.flood(lab.Load{Rate: 10_000, Count: 1}, r.frame(source, nil))
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.ContainsFunc(r.heard, func(h heard) bool { return h.Source == source })
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.heard), func(h heard) bool { return h.Source == source })
}

// A source that is above its share of one node is announced within an interval, with what it has used; one that
// is below is not.
func TestHotSourcesOfRealPackets(t *testing.T) {
	const (
		rate, burst = 2000, 400
		interval    = 100 * time.Millisecond
		nodes       = 4
	)
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: rate, Window: time.Second, Burst: burst}.WithDefaults()
	r := newHotRig(t, p)
	limit := r.policy.BucketLimit()
	shift := limit.ShareShift(interval, nodes)
	if shift != 5 {
		t.Fatalf("a share of 50 packets is 2^%d", shift)
	}
	stop := r.listen(shift)
	hot, cold := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	frames := make([][]byte, 10_000)
	for i := range frames {
		frames[i] = r.frame(hot, nil)
	}
	frames[7] = r.frame(cold, nil) // four of them, and what they lease on each CPU
	started := loader.Monotonic()
	f := r.flood(lab.Load{Rate: 20_000, Duration: 2 * time.Second}, frames...)
	lost := r.counters().HotLost
	all := r.settled(netip.MustParseAddr("198.51.100.3"))
	stop()

	used, _, _ := r.buckets.Use(&r.policy, loader.Key{Source: hot})
	if got := r.buckets.Bucket(&r.policy, loader.Key{Source: cold}, loader.Now()); got.Used == 0 || got.Used >= 1<<shift {
		t.Fatalf("the cold source used %d, which is not below the share", got.Used)
	}
	before := heard{Hot: loader.Hot{Time: started}}
	var late []time.Duration
	for _, h := range all {
		if h.Source != hot || h.Protocol != 17 || h.Slot != r.policy.Slot || !r.policy.Announced(h.Hot) {
			t.Fatalf("announced %+v", h.Hot)
		}
		// A charge may lease what passes two multiples. No announcement may be missing between.
		if more := bucket.UsedSince(before.Used, h.Used); more > 2<<shift+burst/16 || (h.Used^before.Used)>>shift == 0 || h.Time < before.Time {
			t.Errorf("announced %d used at %v after %d at %v", h.Used, h.Time, before.Used, before.Time)
		}
		before = h
		late = append(late, h.after)
	}
	slices.Sort(late)
	t.Logf("sent %d, used %d, announced %d times, half of them heard within %v, all within %v", f.sent(), used, len(all), late[len(late)/2], late[len(late)-1])
	if n, most := len(all), int(used>>shift); n > most || n < most/3 || lost != 0 {
		t.Errorf("announced %d times, %d lost, want %d at most", n, lost, most)
	}
	if left := used - before.Used; left > 2<<shift+burst/16 {
		t.Errorf("%d tokens were used after the last announcement", left)
	}
	if late[len(late)/2] > interval {
		t.Errorf("half of the announcements took %v", late[len(late)/2])
	}
}

// 2^16 forged sources of which every packet is to be announced: each verdict is what it is without, and the
// announcements are as few as the budget has.
func TestAFloodIntoAReconciledPolicy(t *testing.T) {
	const sources, each = 1 << 16, 2
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: 2, Window: time.Hour, Burst: each}.WithDefaults()
	r := newHotRig(t, p)
	stop := r.listen(0)
	frames := make([][]byte, sources)
	for i := range frames {
		frames[i] = r.frame(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), nil)
	}
	f := r.flood(lab.Load{Count: 3 * sources}, frames...)
	c := r.counters()
	all := r.settled(netip.MustParseAddr("198.51.100.3"))
	stop()
	passed := c.Policies["p"][policy.VerdictPass].Packets
	periods := uint64(f.end.Sub(f.start)>>20) + 2
	t.Logf("%d packets in %v, %d passed: %d announced, %d not", f.sent(), f.end.Sub(f.start), passed, len(all), c.HotLost)
	// The table forgets no debt of these: it has sixteen times as many entries.
	if passed+c.Pressure < each*sources || passed > each*sources+c.Pressure {
		t.Errorf("%d packets passed, want %d of each of %d sources; pressure %d", passed, each, sources, c.Pressure)
	}
	if n := uint64(len(all)); n+c.HotLost != passed || n == 0 {
		t.Errorf("%d announced and %d lost of %d admitted packets", n, c.HotLost, passed)
	} else if most := 16 * periods * uint64(runtime.NumCPU()); n > most {
		t.Errorf("%d announced in %d periods, want %d at most", n, periods, most)
	}

	// Nobody listens: nothing more is made or counted.
	r.flood(lab.Load{Count: 1000}, r.frame(netip.MustParseAddr("198.51.100.4"), nil))
	if got := r.counters().HotLost; got != c.HotLost {
		t.Errorf("%d announcements were lost while nobody listened", got-c.HotLost)
	}
}

// What other nodes admitted counts here at once, and what they did not after all is given back.
func TestAnAdjustmentOfRealPackets(t *testing.T) {
	const burst = 1600
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: burst, Window: 10 * 24 * time.Hour, Burst: burst}.WithDefaults()
	r := newHotRig(t, p)
	source := netip.MustParseAddr("198.51.100.1")
	key, limit := loader.Key{Source: source}, r.policy.BucketLimit()
	send := func(n uint64) (passed uint64) {
		before := r.counters().Policies["p"][policy.VerdictPass].Packets
		r.flood(lab.Load{Rate: 50_000, Count: n}, r.frame(source, nil))
		return r.counters().Policies["p"][policy.VerdictPass].Packets - before
	}
	adjust := func(tokens int64) {
		t.Helper()
		applied, found := r.buckets.Adjust(&r.policy, key, loader.Now(), tokens*int64(limit.Cost(1)))
		if !found || applied != tokens*int64(limit.Cost(1)) {
			t.Fatalf("adjusted by %d of %d tokens, found %v", applied/int64(limit.Cost(1)), tokens, found)
		}
	}
	if got := send(100); got != 100 {
		t.Fatalf("%d of 100 passed", got)
	}
	used, _, _ := r.buckets.Use(&r.policy, key)
	adjust(int64(burst - used - 10)) // ten tokens are left, and what was leased
	most := uint64(10 + used - 100)
	if got := send(1000); got != most {
		t.Errorf("%d packets passed after others took nearly all, want %d", got, most)
	}
	adjust(-50)
	if got := send(1000); got < 49 || got > 51 {
		t.Errorf("%d packets passed, want the 50 that were given back", got)
	}
}

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// announcer is a program whose announcements are read.
type announcer struct {
	*bench
	reader *ringbuf.Reader
}

// newAnnouncer loads policies; ring is the size of the ring buffer, 0 for the program's own.
func newAnnouncer(t *testing.T, hook Hook, ring int, policies ...policy.Policy) *announcer {
	t.Helper()
	testutil.RequireRoot(t)
	objects, err := ObjectsOf(hook)
	if err != nil {
		t.Fatal(err)
	}
	if ring != 0 {
		objects.Maps[xdpMapHotSources].MaxEntries = uint32(ring)
	}
	s, err := LoadStandalone(StandaloneOptions{Hook: hook, Policies: policies, TableEntries: 1 << 18, Objects: objects})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	reader, err := ringbuf.NewReader(s.shared.maps[xdpMapHotSources])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(reader.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return &announcer{&bench{t, s}, reader}
}

// listen tells the programs that somebody listens until then, and the shift of every slot.
func (a *announcer) listen(until time.Duration, shift uint8) {
	a.Helper()
	page := xdpHotPage{Until: uint64(until)}
	for i := range page.Shift {
		page.Shift[i] = shift
	}
	if err := a.shared.maps[hotSection].Put(uint32(0), page); err != nil {
		a.Fatal(err)
	}
}

const forEver = time.Duration(math.MaxInt64)

// announced takes what is in the ring buffer.
func (a *announcer) announced() (all []Hot) {
	a.Helper()
	a.reader.SetDeadline(time.Now())
	for {
		record, err := a.reader.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all
		}
		if err != nil {
			a.Fatal(err)
		}
		h, err := decodeHot(record.RawSample)
		if err != nil {
			a.Fatal(err)
		}
		all = append(all, h)
	}
}

func (a *announcer) lost() uint64 {
	a.Helper()
	c, err := a.Counters()
	if err != nil {
		a.Fatal(err)
	}
	return c.HotLost
}

// times sends as many packets of a source at once.
func (a *announcer) times(n uint32, source uint32) {
	a.Helper()
	if _, err := a.Program().Run(&ebpf.RunOptions{Data: udpFrame(source), Repeat: n}); err != nil {
		a.Fatal(err)
	}
}

// reconciledPolicy has a burst that it does not get back while a test runs.
func reconciledPolicy(name string, burst uint64) policy.Policy {
	return policy.Policy{
		Name: name, Scope: policy.ScopePerIP, Limit: burst, Window: 10 * 24 * time.Hour, Burst: burst,
		Consistency: policy.ConsistencyReconciled,
	}.WithDefaults()
}

// A source is announced each time that it has used its share, and one that uses less is not.
func TestHotSourcesAreAnnouncedAtTheirShare(t *testing.T) {
	const burst, shift = 1 << 14, 11
	a := newAnnouncer(t, HookXDP, 0, reconciledPolicy("p", burst))
	a.listen(forEver, shift)
	before := Monotonic()
	a.times(1<<shift-burst/16-1, 2) // what a CPU may lease is counted before it is spent
	a.times(2*burst, 1)             // denied ones are not counted
	got := a.announced()
	if len(got) != burst>>shift || a.lost() != 0 {
		t.Fatalf("%d announcements, %d lost; want %d", len(got), a.lost(), burst>>shift)
	}
	p := &a.Policies()[0]
	for i, h := range got {
		passed := uint32(i+1) << shift
		if h.Used < passed || h.Used > passed+burst/16 {
			t.Errorf("announcement %d: %d tokens used, want %d or a lease more", i, h.Used, passed)
		}
		if h.Key != (Key{Source: netip.MustParseAddr("10.0.0.1"), Protocol: 17, Port: 0}) || h.Slot != p.Slot || !p.Announced(h) {
			t.Errorf("announcement %d: %+v", i, h)
		}
		if h.Time < before || h.Time > Monotonic() {
			t.Errorf("announcement %d is of %v, sent after %v", i, h.Time, before)
		}
	}
	if used, _, found := a.Table().Use(p, Key{Source: netip.MustParseAddr("10.0.0.1")}); !found || used != burst {
		t.Errorf("the table says %d used, want %d", used, burst)
	}
}

// What is announced is what the table says, packet by packet: for every scope, unit and hook.
func TestHotAnnouncementsAreThoseOfTheTable(t *testing.T) {
	per := func(name string, edit func(*policy.Policy)) policy.Policy {
		p := reconciledPolicy(name, 1<<20)
		edit(&p)
		return p
	}
	mixed := []policy.Policy{
		per("source", func(p *policy.Policy) {}),
		per("bytes", func(p *policy.Policy) { p.Unit = policy.UnitBytes }),
		per("endpoint", func(p *policy.Policy) { p.Scope = policy.ScopePerEndpoint }),
		per("local", func(p *policy.Policy) { p.Consistency = policy.ConsistencyLocal }),
		per("strangers", func(p *policy.Policy) { p.NewSources = &policy.NewSources{Limit: 1 << 20, Window: time.Hour} }),
		per("global", func(p *policy.Policy) { p.Scope, p.Mode = policy.ScopeGlobal, policy.ModeShadow }),
	}
	for _, hook := range Hooks() {
		t.Run(string(hook), func(t *testing.T) {
			policies := slices.Clone(mixed)
			if hook == HookTCEgress {
				policies[0].Action = policy.ActionPace
			}
			a := newAnnouncer(t, hook, 0, policies...)
			const shift = 6
			a.listen(forEver, shift)
			random := rand.New(rand.NewPCG(1, 2))
			count, missed := map[string]int{}, 0
			for range 3000 {
				source := random.Uint32N(3) + 1
				frame := udpFrame(source)
				binary.BigEndian.PutUint16(frame[36:], uint16(random.Uint32N(2)))
				copy(frame[34:36], frame[36:38]) // what goes out is counted by its own port
				key := Key{netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", source)), 17, binary.BigEndian.Uint16(frame[36:])}
				before := a.uses(key)
				if !a.sends(frame) {
					t.Fatal("a packet was denied")
				}
				after := a.uses(key)
				var want []string
				for i, p := range a.Policies() {
					if p.Consistency == policy.ConsistencyReconciled && (before[i]^after[i])>>shift != 0 {
						want = append(want, p.Name)
						count[p.Name]++
					}
				}
				// Several policies may come to their share within a millisecond, and to the end of the budget.
				got, lost := a.names(key, after), int(a.lost())
				if len(got)+lost-missed != len(want) || lost == missed && !slices.Equal(got, want) {
					t.Fatalf("announced for %q, and %d more, want %q", got, lost-missed, want)
				}
				missed = lost
			}
			t.Logf("%d packets, to be announced %v, %d of them beyond the budget", 3000, count, missed)
			if len(count) != len(policies)-1 {
				t.Errorf("announced %v, want each of the reconciled policies", count)
			}
		})
	}
}

// uses reads the buckets of a packet, by rank.
func (a *announcer) uses(key Key) (used []uint32) {
	for _, p := range a.Policies() {
		u, _, _ := a.Table().Use(&p, key)
		used = append(used, u)
	}
	return used
}

// names are the policies for which a packet was announced, in their order; with what they have used.
func (a *announcer) names(key Key, used []uint32) (names []string) {
	a.Helper()
	for _, h := range a.announced() {
		for i, p := range a.Policies() {
			if !p.Announced(h) {
				continue
			}
			names = append(names, p.Name)
			if h.Key != key || h.Used != used[i] {
				a.Errorf("%s: announced %+v with %d used, want %+v with %d", p.Name, h.Key, h.Used, key, used[i])
			}
		}
	}
	return names
}

// Nobody listens, or nobody wants to know: nothing is written, and nothing counted as lost.
func TestNobodyListensToHotSources(t *testing.T) {
	a := newAnnouncer(t, HookXDP, 0, reconciledPolicy("p", 1000))
	source := uint32(0)
	for name, page := range map[string]struct {
		until time.Duration
		shift uint8
	}{
		"nobody":          {0, 0},
		"not any more":    {Monotonic(), 0},
		"never":           {forEver, HotNever},
		"never, in short": {forEver, 255},
		"a larger share":  {forEver, 10},
	} {
		source++
		a.listen(page.until, page.shift)
		a.times(2000, source)
		if got := a.announced(); len(got) != 0 || a.lost() != 0 {
			t.Errorf("%s: %d announcements, %d lost", name, len(got), a.lost())
		}
	}
	a.listen(forEver, 0)
	a.times(1, source+1)
	if got := a.announced(); len(got) != 1 {
		t.Errorf("%d announcements, want 1", len(got))
	}
	local := reconciledPolicy("p", 1000)
	local.Consistency = policy.ConsistencyLocal
	a = newAnnouncer(t, HookXDP, 0, local)
	a.listen(forEver, 0)
	a.times(2000, 1)
	if got := a.announced(); len(got) != 0 || a.lost() != 0 {
		t.Errorf("a local policy: %d announcements, %d lost", len(got), a.lost())
	}
}

// A flood of sources of which each packet is to be announced, into a ring that nobody empties: every verdict
// is what it is without, and each announcement is made or counted.
func TestAFloodOfHotSourcesIsBounded(t *testing.T) {
	const sources = 1 << 16
	a := newAnnouncer(t, HookXDP, os.Getpagesize(), reconciledPolicy("p", 2))
	a.listen(forEver, 0)
	start := time.Now()
	for source := range uint32(sources) {
		for packet := range 3 {
			if got := a.passes(source); got != (packet < 2) {
				t.Fatalf("source %d, packet %d: passed %v", source, packet, got)
			}
		}
	}
	got, lost := uint64(len(a.announced())), a.lost()
	t.Logf("%d tokens in %v: %d announced, %d not", 2*sources, time.Since(start), got, lost)
	if got+lost != 2*sources {
		t.Errorf("%d announced and %d lost, want %d together", got, lost, 2*sources)
	}
	if room := uint64(os.Getpagesize() / (hotSize + 8)); got > room || got < room-1 {
		t.Errorf("%d announced, want the ring's %d", got, room)
	}

	// With room for all of them the budget is the bound.
	a = newAnnouncer(t, HookXDP, 1<<23, reconciledPolicy("p", 1<<30))
	a.listen(forEver, 4)
	start = time.Now()
	a.times(4_000_000, 1)
	periods := uint64(time.Since(start)>>20) + 2
	periods *= uint64(runtime.NumCPU()) // the test may move
	got, lost = uint64(len(a.announced())), a.lost()
	t.Logf("4000000 packets in %v: %d announced, %d not", time.Since(start), got, lost)
	if got > 16*periods || got == 0 || lost == 0 {
		t.Errorf("%d announced and %d lost in %d periods, want 16 in each at most", got, lost, periods)
	}
}

// Two CPUs that pass one multiple at once: one of them announces it, and not both or neither.
func TestCPUsAnnounceEveryMultipleOnce(t *testing.T) {
	const burst, shift = 1 << 22, 5
	a := newAnnouncer(t, HookXDP, 1<<24, reconciledPolicy("p", burst))
	a.listen(forEver, shift)
	var done sync.WaitGroup
	for range max(2, runtime.NumCPU()) {
		done.Go(func() {
			if _, err := a.Program().Run(&ebpf.RunOptions{Data: udpFrame(1), Repeat: burst}); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	// A lease passes two multiples at once, and the first packet on each CPU has none.
	got, lost := uint64(len(a.announced())), a.lost()
	used, _, _ := a.Table().Use(&a.Policies()[0], Key{Source: netip.MustParseAddr("10.0.0.1")})
	if most, least := uint64(used>>shift), uint64(used>>(shift+1)); got+lost < least || got+lost > most {
		t.Errorf("%d announced and %d not, of %d tokens: want %d to %d", got, lost, used, least, most)
	}
}

// Adjusting a bucket makes the kernel deny and admit, at once but for what a CPU has leased.
func TestTheKernelHeedsAdjustments(t *testing.T) {
	const burst = 4096
	a := newAnnouncer(t, HookXDP, 0, reconciledPolicy("p", burst))
	p := &a.Policies()[0]
	limit := p.BucketLimit()
	key := Key{Source: netip.MustParseAddr("10.0.0.1")}
	adjust := func(tokens int64) (applied int64) {
		t.Helper()
		applied, found := a.Table().Adjust(p, key, Now(), tokens*int64(limit.Cost(1)))
		if !found {
			t.Fatal("the source has no entry")
		}
		return applied
	}
	passes := func(n int) (passed int) {
		for range n {
			if a.passes(1) {
				passed++
			}
		}
		return passed
	}
	if _, found := a.Table().Adjust(p, key, Now(), 1); found {
		t.Error("a source that was never seen was charged")
	}
	if got := passes(100); got != 100 {
		t.Fatalf("%d of 100 passed", got)
	}
	adjust(burst)
	if got := passes(1000); got > burst/16 {
		t.Errorf("%d packets passed after others took the burst, want what was leased, %d at most", got, burst/16)
	}
	if passes(1) != 0 {
		t.Fatal("a packet passed a bucket that owes its depth")
	}
	// The denial is remembered for 64 ms, and forgotten by an adjustment. What is owed beyond the depth comes first.
	_, tat, _ := a.Table().Use(p, key)
	beyond := int64(tat-Now()) - int64(limit.Depth)
	if beyond <= 0 || beyond > int64(time.Second)<<8 {
		t.Errorf("the bucket owes %d ticks beyond its depth", beyond)
	}
	a.Table().Adjust(p, key, Now(), -beyond)
	adjust(-50)
	if got := passes(1000); got < 49 || got > 51 {
		t.Errorf("%d packets passed, want the 50 that were given back", got)
	}
}

package loader

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// bench is a program to which packets of chosen sources are sent.
type bench struct {
	*testing.T
	*Standalone
}

func newBench(t *testing.T, hook Hook, allow ...netip.Prefix) *bench {
	t.Helper()
	testutil.RequireRoot(t)
	p := policy.Policy{Name: "a", Scope: policy.ScopePerIP, Limit: 1e6, Window: time.Second}.WithDefaults()
	s, err := LoadStandalone(StandaloneOptions{Hook: hook, Policies: []policy.Policy{p}, Allow: allow, TableEntries: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{t, s}
}

// passes sends one packet of 10.0.0.x.
func (b *bench) passes(last uint32) bool { return b.sends(udpFrame(last)) }

func (b *bench) sends(frame []byte) bool {
	b.Helper()
	verdict, err := b.Program().Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		b.Fatal(err)
	}
	hook := HookXDP
	if b.Program().Type() != ebpf.XDP {
		hook = HookTCIngress
	}
	return passed(hook, verdict)
}

func (b *bench) ban(prefix string, d time.Duration) {
	b.Helper()
	if err := b.Ban(netip.MustParsePrefix(prefix), d); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) unban(prefix string) {
	b.Helper()
	if err := b.Unban(netip.MustParsePrefix(prefix)); err != nil {
		b.Fatal(err)
	}
}

// listed is what a list has decided so far.
func (b *bench) listed(list string) Count {
	b.Helper()
	c, err := b.Counters()
	if err != nil {
		b.Fatal(err)
	}
	return c.Listed[list]
}

// expect holds which of 10.0.0.1 to .4 pass.
func (b *bench) expect(what string, want ...bool) {
	b.Helper()
	for i, want := range want {
		if got := b.passes(uint32(i + 1)); got != want {
			b.Errorf("%s: 10.0.0.%d passes: %v, want %v", what, i+1, got, want)
		}
	}
}

// The programs drop what is banned, let pass what is allowed as well, and count both, at every hook.
func TestProgramsBan(t *testing.T) {
	for _, hook := range Hooks() {
		t.Run(string(hook), func(t *testing.T) {
			b := newBench(t, hook, netip.MustParsePrefix("10.0.0.4/32"))
			b.expect("nobody is banned", true, true, true, true)
			b.ban("10.0.0.1/32", time.Hour)
			b.expect("a host", false, true, true, true)
			b.ban("10.0.0.2/31", time.Hour)
			b.ban("10.0.0.4/32", time.Hour)
			b.expect("a network, and who is allowed", false, false, false, true)
			size := uint64(len(udpFrame(1)))
			if got, want := b.listed("ban"), (Count{4, 4 * size}); got != want {
				t.Errorf("banned: %+v, want %+v", got, want)
			}
			if got, want := b.listed("allow"), (Count{3, 3 * size}); got != want {
				t.Errorf("allowed: %+v, want %+v", got, want)
			}
			b.unban("10.0.0.1/32")
			b.expect("the host no more", true, false, false, true)
		})
	}
}

// A lookup finds the longest prefix alone, which has to speak for the wider ones.
func TestProgramsBanNested(t *testing.T) {
	b := newBench(t, HookXDP)
	b.ban("10.0.0.0/24", time.Hour)
	b.ban("10.0.0.1/32", time.Minute)
	b.expect("both", false, false)
	b.unban("10.0.0.1/32")
	b.expect("the network alone", false, false)
	b.ban("10.0.0.1/32", time.Hour)
	b.unban("10.0.0.0/24")
	b.expect("the host alone", false, true)
}

// IPv6 has a trie of its own, which is asked only while there is a ban in it.
func TestProgramsBanIPv6(t *testing.T) {
	b := newBench(t, HookXDP)
	frame := tcp6Frame(100) // of fd00::
	b.ban("10.0.0.1/32", time.Hour)
	if !b.sends(frame) {
		t.Error("a ban of IPv4 drops IPv6")
	}
	b.ban("fd00::/8", time.Hour)
	if b.sends(frame) {
		t.Error("fd00:: passes, want it banned")
	}
	b.unban("fd00::/8")
	if !b.sends(frame) {
		t.Error("fd00:: is dropped, want it banned no more")
	}
}

// A ban ends by itself: nobody does anything but send.
func TestProgramsBanEnds(t *testing.T) {
	const lasts = 50 * time.Millisecond
	b := newBench(t, HookXDP)
	b.ban("10.0.0.0/24", lasts/2)
	begin := sinceBoot()
	b.ban("10.0.0.1/32", lasts)
	var dropped uint64
	for !b.passes(1) {
		if dropped++; sinceBoot()-begin > 10*time.Second {
			t.Fatal("the ban does not end")
		}
	}
	// The programs look at the coarse clock, which is late, by a tick at most: a ban never ends early.
	if lasted := sinceBoot() - begin; lasted < lasts || dropped == 0 {
		t.Errorf("after %s, %d packets dropped, it was over: want %s", lasted, dropped, lasts)
	}
	if got := b.listed("ban").Packets; got != dropped {
		t.Errorf("%d counted as banned, want %d", got, dropped)
	}
}

// The room that the programs have for bans is what is promised, at every hook.
func TestMaxBansIsTheMaps(t *testing.T) {
	for _, hook := range Hooks() {
		spec, err := ObjectsOf(hook)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{xdpMapBans4, xdpMapBans6} {
			if got := spec.Maps[name].MaxEntries; got != MaxBans {
				t.Errorf("%s of %s has room for %d, want %d", name, hook, got, MaxBans)
			}
		}
	}
}

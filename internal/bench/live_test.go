package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// steadyLimit is tight without what this version may not enforce.
func steadyLimit() policy.Policy {
	p := tight()
	p.NewSources = nil
	return p
}

// Every frame that is sent is processed, what a limiter counts adds up, and each of them limits.
func TestLive(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, "", sectionLive)
	r.live = steadyLimit()
	all := liveScenarios(r.many)
	for _, s := range []liveScenario{all[0], all[2]} { // one source, and many that are known
		c, err := r.liveContest(t.Context(), s)
		if err != nil {
			t.Fatalf("%+v", errors.Join(err, c.Close()))
		}
		if err := r.hold(t.Context(), c); err != nil {
			t.Fatalf("%+v", err)
		}
	}
	checkFigures(t, r.report)
	if len(r.report.LeftOut) > 0 {
		t.Errorf("left out: %+v (run scripts/deps.sh)", r.report.LeftOut)
	}
	for _, row := range r.report.Rows {
		if len(row.Contenders) != 4 {
			t.Errorf("%s: %d contenders, want 4", row.Traffic, len(row.Contenders))
		}
		for _, m := range row.Contenders {
			if m.Lost > 0 || m.Dropped < 0.1 {
				t.Errorf("%s, %s: lost %d, dropped %.3f", row.Traffic, m.Contender, m.Lost, m.Dropped)
			}
		}
	}
	if len(r.report.Comparisons) != 6 {
		t.Errorf("%d comparisons, want 6: %+v", len(r.report.Comparisons), r.report.Comparisons)
	}
}

// Sources that weir has forgotten are strangers again, turn after turn.
func TestLiveStrangers(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, "", sectionLive)
	c, err := r.liveContest(t.Context(), liveScenarios(r.many)[1])
	if err != nil {
		t.Fatalf("%+v", errors.Join(err, c.Close()))
	}
	if err := r.hold(t.Context(), c); err != nil {
		t.Fatalf("%+v", err)
	}
	checkFigures(t, r.report)
	if row := r.report.Rows[0]; len(row.Contenders) != 2 || row.find(nameWeir) < 0 {
		t.Errorf("contenders %+v, want a bare drop and weir", row.Contenders)
	}
}

// A spoofed flood is held to the strangers that the policy allows.
func TestLiveFlood(t *testing.T) {
	testutil.NoLeaks(t)
	r := newRunner(t, "", sectionLive)
	c, err := r.liveContest(t.Context(), liveScenarios(r.many)[3])
	if err != nil {
		t.Fatalf("%+v", errors.Join(err, c.Close()))
	}
	if err := r.hold(t.Context(), c); err != nil {
		t.Fatalf("%+v", err)
	}
	checkFigures(t, r.report)
	row := r.report.Rows[0]
	if row.find(nameWeir) < 0 {
		t.Errorf("contenders %+v, want weir among them", row.Contenders)
	}
}

// newTestWire plugs in a wire that counts what the limiter lets through.
func newTestWire(t *testing.T, sources uint64, attach attacher) *wire {
	t.Helper()
	testutil.RequireRoot(t)
	cpus, err := lastCPUs(1)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWire(t.Context(), "test", sources, cpus[0], attach)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// A limiter that does not limit, or one that is never reached, is found out.
func TestWireVoid(t *testing.T) {
	lenient := func(h *lab.Host, s *sender) (limiter, error) {
		w, err := newWeir(generous(1), 1<<10)
		if err != nil {
			return nil, err
		}
		return newWeirLimiter(h, s, w)
	}
	for _, c := range []struct {
		name   string
		attach attacher
		want   string
	}{
		{"it admits all", lenient, "it admitted"},
		{"it is never reached", newDropper, "came to the limiter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testutil.NoLeaks(t)
			w := newTestWire(t, 1, c.attach)
			w.leadIn, w.size, w.admits = 64, 5000, admission{burst: 5, rate: 10, least: true}
			if err := w.warm(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := w.turn(); err != nil {
				t.Fatal(err)
			}
			if m, err := w.verify(); !errors.Is(err, ErrVerdict) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v; want %q", m, err, c.want)
			}
		})
	}
}

func TestAdmission(t *testing.T) {
	steady := admission{burst: 500, rate: 1000, least: true}
	for _, c := range []struct {
		name                string
		a                   admission
		processed, admitted uint64
		ok                  bool
	}{
		{"the limit", steady, 100_000, 2000, true},
		{"with every burst", steady, 100_000, 3000, true},
		{"beyond it", steady, 100_000, 4000, false},
		{"far below it", steady, 100_000, 1000, false},
		{"less came than the limit", steady, 1000, 1000, true},
		{"a cap may admit nothing", admission{burst: 500, rate: 1000}, 100_000, 0, true},
		{"and not too much", admission{burst: 500, rate: 1000}, 100_000, 4000, false},
	} {
		err := c.a.check(2, 2*time.Second, c.processed, c.admitted)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The frames that arrive are sound: their header's checksum is right for every source, and so they come to the raw table of
// iptables, which the kernel's own check precedes.
func TestFramesAreSound(t *testing.T) {
	testutil.NoLeaks(t)
	w := newTestWire(t, flood, func(h *lab.Host, s *sender) (limiter, error) { return newFirewall(h, s, hashlimit(1<<14, 1<<14)) })
	w.leadIn, w.size = 0, 6400
	if err := w.warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.turn(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.verify(); err != nil {
		t.Fatal(err)
	}
	_, admitted, err := w.limiter.counts()
	if err != nil || admitted < 6400*99/100 { // but for those sources that came up twice, all are new, and within their limit
		t.Errorf("%d of 6400 frames came to iptables, %v", admitted, err)
	}
}

func TestHeaderSum(t *testing.T) {
	f := newFrame()
	sum := headerSum(f) + uint32(binary.NativeEndian.Uint16(f[frameIP+12:])) + uint32(binary.NativeEndian.Uint16(f[frameIP+14:]))
	sum = sum&0xffff + sum>>16
	binary.NativeEndian.PutUint16(f[frameIP+10:], ^uint16(sum&0xffff+sum>>16))
	total := uint32(0)
	for i := frameIP; i < frameUDP; i += 2 {
		total += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	if total = total&0xffff + total>>16; total != 0xffff {
		t.Errorf("the header sums up to %#x, want 0xffff (RFC 1071)", total)
	}
}

// Without its command a firewall is left out, and the rest is measured.
func TestFirewallMissing(t *testing.T) {
	testutil.NoLeaks(t)
	t.Setenv("PATH", t.TempDir())
	r := newRunner(t, "", sectionLive)
	r.live = steadyLimit()
	c, err := r.liveContest(t.Context(), liveScenarios(r.many)[0])
	if err != nil {
		t.Fatal(errors.Join(err, c.Close()))
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if len(c.lanes) != 2 || len(r.report.LeftOut) != 2 {
		t.Fatalf("%d contenders, left out %+v", len(c.lanes), r.report.LeftOut)
	}
	for i, command := range []string{"nft", "iptables"} {
		if want := fmt.Sprintf("%s is not installed", command); !strings.Contains(r.report.LeftOut[i].Why, want) {
			t.Errorf("left out: %+v, want %q", r.report.LeftOut[i], want)
		}
	}
}

// lpmPrefixes and selective are what their rows say.
func TestMatchingPolicies(t *testing.T) {
	prefixes, covered := lpmPrefixes(10_000, 16)
	addresses := map[uint32]bool{}
	for _, p := range prefixes {
		a := p.Addr().As4()
		if p != p.Masked() || a[0] != 10 || a[1] != 0 {
			t.Fatalf("prefix %s", p)
		}
		addresses[binary.BigEndian.Uint32(a[:])] = true
	}
	if len(addresses) != 10_000 || covered != 10_000.0/16_384 {
		t.Errorf("%d different prefixes that cover %v", len(addresses), covered)
	}
	matching := 0
	for _, p := range selective() {
		port := p.Match.Ports[0].First <= framePort && framePort <= p.Match.Ports[0].Last
		if port && p.Match.Sources[0].Contains(address4(frameSource)) {
			matching++
		}
	}
	if matching != 4 {
		t.Errorf("%d of the policies match the driver's packet, want 4", matching)
	}
}

func TestVerifier(t *testing.T) {
	testutil.NoLeaks(t)
	report, err := newRunner(t, "", sectionVerifier).run(t.Context())
	if err != nil {
		t.Fatalf("%+v", err)
	}
	last := map[string]ProgramCost{}
	for _, c := range report.Programs {
		before := last[c.Hook]
		if c.Instructions < before.Instructions || c.Processed < 1 || c.Stack == "" {
			t.Errorf("%+v after %+v", c, before)
		}
		last[c.Hook] = c
	}
	// With no policy nothing is left of what a policy needs: so the constants are those of the loader.
	if first, c := report.Programs[0], last[report.Programs[0].Hook]; c.Policies != 64 || c.Instructions < 2*first.Instructions {
		t.Errorf("first %+v, last %+v", first, c)
	}
	if len(last) != len(loader.Hooks()) {
		t.Errorf("programs of %d hooks, want those of %v", len(last), loader.Hooks())
	}
	if _, _, err := verifierStatistics("no such line"); err == nil {
		t.Error("no statistics, and no error")
	}
}

package metrics

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	weirtest "github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMain(m *testing.M) { weirtest.Main(m) }

// fakeSource says what it is told to.
type fakeSource struct {
	mu         sync.Mutex
	kernel     Kernel
	table      Table
	kernelErr  error
	tableErr   error
	tableReads int
	bans       Bans
	bansErr    error
}

func (f *fakeSource) Kernel() (Kernel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kernel, f.kernelErr
}

func (f *fakeSource) Table() (Table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tableReads++
	return f.table, f.tableErr
}

func (f *fakeSource) BanCounts() (Bans, error) { return f.bans, f.bansErr }

// fullSource has an interface with two hooks, which share a policy.
func fullSource() *fakeSource {
	return &fakeSource{
		kernel: Kernel{
			Policies: 2,
			Attachments: []Attachment{
				{
					Interface: "eth0", Hook: "xdp", Pressure: 2, Contended: 3, EventsLost: 1, Unparsed: map[string]uint64{"truncated": 4, "not_ip": 6},
					Listed: map[string]Count{"deny": {1, 60}, "ban": {2, 120}},
					Policies: []Policy{{Name: "per-client", Strangers: 1, Verdicts: map[policy.Verdict]Count{
						policy.VerdictPass: {1, 50}, policy.VerdictDrop: {2, 100}, policy.VerdictShadowDrop: {0, 0},
					}}},
				},
				{
					Interface: "eth0", Hook: "tc-egress", Pressure: 1, Contended: 1, EventsLost: 4, Unparsed: map[string]uint64{"truncated": 1},
					Listed: map[string]Count{"deny": {2, 120}},
					Policies: []Policy{{Name: "per-client", Paced: 7, Verdicts: map[policy.Verdict]Count{
						policy.VerdictPass: {0, 10}, policy.VerdictDrop: {0, 20}, policy.VerdictShadowDrop: {0, 0},
					}}},
				},
				{Interface: "eth1", Hook: "xdp", Pressure: 10, Unparsed: map[string]uint64{"truncated": 0}},
			},
		},
		table: Table{Capacity: 1024, Claimed: 7, Owing: 2, Leasing: 8, Denying: 9},
		bans:  Bans{IPv4: 11, IPv6: 12},
	}
}

func newCollector(t *testing.T, s Source, now func() time.Time) *Collector {
	t.Helper()
	c, err := New(Options{Source: s, Instance: "node-1", Build: Build{"v1.2.3", "abc", "go1.26"}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const fullText = `
# HELP rate_limiter_active_policies Policies that are in force: on one interface or more, or for requests of layer 7.
# TYPE rate_limiter_active_policies gauge
rate_limiter_active_policies{instance="node-1"} 2
# HELP rate_limiter_build_info Always 1; the labels say which program is running.
# TYPE rate_limiter_build_info gauge
rate_limiter_build_info{goversion="go1.26",revision="abc",version="v1.2.3"} 1
# HELP rate_limiter_kernel_bans Timed bans that are in force, by address family: ipv4 or ipv6.
# TYPE rate_limiter_kernel_bans gauge
rate_limiter_kernel_bans{family="ipv4"} 11
rate_limiter_kernel_bans{family="ipv6"} 12
# HELP rate_limiter_kernel_bytes_total Bytes of the frames that a policy judged in the kernel, by verdict: pass, drop or shadow-drop.
# TYPE rate_limiter_kernel_bytes_total counter
rate_limiter_kernel_bytes_total{interface="eth0",policy="per-client",verdict="drop"} 120
rate_limiter_kernel_bytes_total{interface="eth0",policy="per-client",verdict="pass"} 60
rate_limiter_kernel_bytes_total{interface="eth0",policy="per-client",verdict="shadow-drop"} 0
# HELP rate_limiter_kernel_contended_total Packets that were denied because other CPUs won every compare-and-swap on their bucket.
# TYPE rate_limiter_kernel_contended_total counter
rate_limiter_kernel_contended_total{interface="eth0"} 4
rate_limiter_kernel_contended_total{interface="eth1"} 0
# HELP rate_limiter_kernel_denying_slots Slots of CPUs whose last answer was a denial, which they repeat by themselves until the next token is due.
# TYPE rate_limiter_kernel_denying_slots gauge
rate_limiter_kernel_denying_slots 9
# HELP rate_limiter_kernel_events_lost_total Samples of packets that found the ring buffer of events full.
# TYPE rate_limiter_kernel_events_lost_total counter
rate_limiter_kernel_events_lost_total 5
# HELP rate_limiter_kernel_leasing_slots Slots of CPUs that hold tokens which they took from a bucket and have not spent.
# TYPE rate_limiter_kernel_leasing_slots gauge
rate_limiter_kernel_leasing_slots 8
# HELP rate_limiter_kernel_listed_bytes_total Bytes of the frames that a list decided over before any policy, by list: allow, deny or ban.
# TYPE rate_limiter_kernel_listed_bytes_total counter
rate_limiter_kernel_listed_bytes_total{interface="eth0",list="ban"} 120
rate_limiter_kernel_listed_bytes_total{interface="eth0",list="deny"} 180
# HELP rate_limiter_kernel_listed_packets_total Packets that a list decided over before any policy, by list: allow passes them, deny and ban drop them.
# TYPE rate_limiter_kernel_listed_packets_total counter
rate_limiter_kernel_listed_packets_total{interface="eth0",list="ban"} 2
rate_limiter_kernel_listed_packets_total{interface="eth0",list="deny"} 3
# HELP rate_limiter_kernel_packets_total Packets that a policy judged in the kernel, by verdict: pass, drop or shadow-drop.
# TYPE rate_limiter_kernel_packets_total counter
rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="drop"} 2
rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="pass"} 1
rate_limiter_kernel_packets_total{interface="eth0",policy="per-client",verdict="shadow-drop"} 0
# HELP rate_limiter_kernel_paced_packets_total Packets over a policy's limit that were given a later departure: a part of its passes.
# TYPE rate_limiter_kernel_paced_packets_total counter
rate_limiter_kernel_paced_packets_total{interface="eth0",policy="per-client"} 7
# HELP rate_limiter_kernel_stranger_drops_total Packets of first-seen sources beyond a policy's new_sources, dropped or in shadow: a part of its drops.
# TYPE rate_limiter_kernel_stranger_drops_total counter
rate_limiter_kernel_stranger_drops_total{interface="eth0",policy="per-client"} 1
# HELP rate_limiter_kernel_unparsed_total Packets that passed without being charged to any policy, by the reason.
# TYPE rate_limiter_kernel_unparsed_total counter
rate_limiter_kernel_unparsed_total{interface="eth0",reason="not_ip"} 6
rate_limiter_kernel_unparsed_total{interface="eth0",reason="truncated"} 5
rate_limiter_kernel_unparsed_total{interface="eth1",reason="truncated"} 0
# HELP rate_limiter_table_capacity Entries that the bucket table has room for.
# TYPE rate_limiter_table_capacity gauge
rate_limiter_table_capacity 1024
# HELP rate_limiter_table_entries Entries of the bucket table that a source was given.
# TYPE rate_limiter_table_entries gauge
rate_limiter_table_entries 7
# HELP rate_limiter_table_owing_entries Entries of the bucket table whose bucket is not full.
# TYPE rate_limiter_table_owing_entries gauge
rate_limiter_table_owing_entries 2
# HELP rate_limiter_table_pressure_total Packets of sources without an entry which found every entry of their set owing tokens.
# TYPE rate_limiter_table_pressure_total counter
rate_limiter_table_pressure_total 13
`

func TestCollector(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(t, fullSource(), time.Now))
	if err := testutil.GatherAndCompare(registry, strings.NewReader(fullText)); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Every label is a closed set, or a name that the operator gave: none can hold an address.
func TestLabels(t *testing.T) {
	t.Parallel()
	closed := map[string]bool{
		"interface": true, "policy": true, "verdict": true, "reason": true, "instance": true, "list": true, "family": true,
		"version": true, "revision": true, "goversion": true,
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(t, fullSource(), time.Now))
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !closed[l.GetName()] {
					t.Errorf("%s has a label %s", family.GetName(), l.GetName())
				}
			}
		}
	}
}

func TestSourceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("the kernel is away")
	for name, test := range map[string]struct {
		source *fakeSource
		kept   string
	}{
		"kernel": {&fakeSource{kernelErr: broken, table: Table{Claimed: 7}}, "rate_limiter_table_entries 7"},
		"bans":   {&fakeSource{bansErr: broken, table: Table{Claimed: 7}}, "rate_limiter_table_entries 7"},
		"table":  {&fakeSource{tableErr: broken, kernel: Kernel{Policies: 2}}, `rate_limiter_active_policies{instance="node-1"} 2`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := prometheus.NewCounter(prometheus.CounterOpts{Name: "another_total", Help: "Of another collector."})
			var log strings.Builder
			handler, err := Handler(slog.New(slog.NewTextHandler(&log, nil)), newCollector(t, test.source, time.Now), other)
			if err != nil {
				t.Fatal(err)
			}
			_ = scrape(t, handler)
			body := scrape(t, handler) // the count of the first failure shows in the second scrape
			for _, want := range []string{test.kept, "another_total 0", `promhttp_metric_handler_errors_total{cause="gathering"} 1`} {
				if !strings.Contains(body, "\n"+want) {
					t.Errorf("the scrape lacks %q:\n%s", want, body)
				}
			}
			if !strings.Contains(log.String(), broken.Error()) {
				t.Errorf("log %q, want the error in it", log.String())
			}
		})
	}
}

func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestTableIsReadOncePerSecond(t *testing.T) {
	t.Parallel()
	s := fullSource()
	now := time.Unix(1000, 0)
	c := newCollector(t, s, func() time.Time { return now })
	for _, step := range []struct {
		pass  time.Duration
		err   error
		reads int
	}{
		{0, nil, 1},
		{tableAge - 1, nil, 1},
		{1, nil, 2},
		{tableAge, errors.New("an error is not kept"), 3},
		{0, nil, 4},
		{0, nil, 4},
	} {
		now = now.Add(step.pass)
		s.tableErr = step.err
		if _, err := c.table.get(); !errors.Is(err, step.err) {
			t.Errorf("at %v: %v, want %v", now, err, step.err)
		}
		if s.tableReads != step.reads {
			t.Errorf("at %v: %d reads, want %d", now, s.tableReads, step.reads)
		}
	}
}

// A sum over attachments never falls, and counts nothing twice; a series that nobody counts in is gone.
func TestSumsAreMonotonic(t *testing.T) {
	t.Parallel()
	s, desc := sums{}, describe()
	for i, step := range []struct {
		counts   map[string]uint64 // by attachment
		all, own uint64            // the sum over all, and that of eth1's series
	}{
		{map[string]uint64{"eth0": 5, "eth1 xdp": 4, "eth1 tc-egress": 6}, 15, 10},
		{map[string]uint64{"eth0": 6, "eth1 xdp": 4, "eth1 tc-egress": 6}, 16, 10},
		{map[string]uint64{"eth0": 6, "eth1 xdp": 5}, 17, 11},                      // one hook of eth1 is detached
		{map[string]uint64{"eth0": 7, "eth1 xdp": 5, "eth1 tc-egress": 2}, 20, 13}, // and attached anew
		{map[string]uint64{"eth0": 1, "eth1 xdp": 5, "eth1 tc-egress": 2}, 21, 13}, // eth0 was detached and attached between two scrapes
		{map[string]uint64{"eth0": 1}, 21, 0},                                      // nothing of eth1 is left
		{map[string]uint64{"eth0": 1, "eth1 xdp": 3}, 24, 3},
		{nil, 24, 0},
	} {
		s.add("", desc.pressure, 0)
		for at, n := range step.counts {
			s.add(at, desc.pressure, n)
			if iface, _, _ := strings.Cut(at, " "); iface == "eth1" {
				s.add(at, desc.contended, n, iface)
			}
		}
		got := map[*prometheus.Desc]uint64{}
		for _, r := range s.read() {
			got[r.desc] = r.value
		}
		if got[desc.pressure] != step.all || got[desc.contended] != step.own || step.own == 0 && len(got) != 1 {
			t.Errorf("step %d: %v, want %d and %d", i, got, step.all, step.own)
		}
	}
}

func TestConcurrentScrapes(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(t, fullSource(), time.Now))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Linux takes any bytes for the name of an interface.
func TestNameThatIsNoText(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(t, &fakeSource{kernel: Kernel{Attachments: []Attachment{{Interface: "eth\xff"}}}}, time.Now))
	if _, err := registry.Gather(); err == nil {
		t.Error("gather: no error, want one")
	}
}

func TestErrorLogHidesClients(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	l := errorLog{slog.New(slog.NewTextHandler(&log, nil))}
	l.Println("error encoding and sending metric family:", &net.OpError{
		Op: "write", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 1}, Err: errors.New("broken pipe"),
	})
	if got := log.String(); strings.Contains(got, "203.0.113.9") || !strings.Contains(got, "broken pipe") {
		t.Errorf("log %q, want the reason without the address", got)
	}
}

package top

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMain(m *testing.M) { testutil.Main(m) }

const boot = 1000 * time.Second

// rig is a Top with a clock and a listener of the test's own.
type rig struct {
	*Top
	now         atomic.Int64
	lost        atomic.Uint64
	events      chan loader.Event // to what listens
	runs        chan struct{}     // one for each time that listening begins
	attachments func() ([]loader.Attachment, error)
}

func newRig(idle time.Duration) *rig {
	r := &rig{events: make(chan loader.Event), runs: make(chan struct{}, 10)}
	r.attachments = func() ([]loader.Attachment, error) { return []loader.Attachment{*attachment(0, 0)}, nil }
	r.now.Store(int64(boot))
	r.Top = New(Options{
		Listener: r, Now: func() time.Duration { return time.Duration(r.now.Load()) },
		Attachments: func() ([]loader.Attachment, error) { return r.attachments() },
		Idle:        idle, Every: time.Millisecond,
	})
	return r
}

func (r *rig) Lost() uint64 { return r.lost.Load() }

func (r *rig) Run(ctx context.Context, handle func(loader.Event)) error {
	r.runs <- struct{}{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.events:
			handle(e)
		}
	}
}

// attachment is eth0 with two policies, and what they counted.
func attachment(passed, dropped uint64) *loader.Attachment {
	a := &loader.Attachment{Interface: "eth0", Index: 7, Hook: "xdp", Counters: loader.Counters{
		Policies: map[string]map[policy.Verdict]loader.Count{
			"per-client": {policy.VerdictPass: {Packets: passed}, policy.VerdictDrop: {Packets: dropped}},
		},
	}}
	for slot, name := range []string{"per-client", "per-net"} {
		a.Policies = append(a.Policies, loader.LoadedPolicy{Policy: policy.Policy{Name: name}, Slot: uint8(slot)})
	}
	return a
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}) }

// event is of a source to a DNS server, n seconds after boot.
func event(from int, seconds float64, verdict policy.Verdict, packets uint64) loader.Event {
	e := loader.Event{
		Source: address(from), Time: boot + time.Duration(seconds*float64(time.Second)), Packets: packets, Bytes: 100 * packets,
		Interface: 7, Hook: "xdp", Protocol: unix.IPPROTO_UDP, Port: 53, Verdict: verdict, Slot: 0,
	}
	if verdict != policy.VerdictPass {
		e.Cause = loader.CauseLimit
	}
	return e
}

// heard is a Top that has listened since boot, and heard these events.
func heard(t *testing.T, events ...loader.Event) *Top {
	t.Helper()
	r := newRig(0)
	r.Top.begin()
	r.learn([]loader.Attachment{*attachment(0, 0)}, nil)
	for _, e := range events {
		r.add(e)
	}
	return r.Top
}

func (t *Top) must(tb testing.TB, seconds float64, q Query) *Report {
	tb.Helper()
	r, err := t.Report(boot+time.Duration(seconds*float64(time.Second)), q)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestReport(t *testing.T) {
	udp := func(from int, seconds float64, verdict policy.Verdict, packets uint64) loader.Event {
		return event(from, seconds, verdict, packets)
	}
	web := udp(1, 2.5, policy.VerdictPass, 10)
	web.Protocol, web.Port, web.Bytes = unix.IPPROTO_TCP, 443, 15_000
	shadow := udp(2, 3.1, policy.VerdictShadowDrop, 20)
	shadow.Slot = 1
	stranger := udp(3, 1.2, policy.VerdictDrop, 1)
	stranger.Cause = loader.CauseStranger
	top := heard(t,
		udp(1, 0.5, policy.VerdictPass, 1), web,
		udp(2, 0.7, policy.VerdictPass, 30), udp(2, 1.5, policy.VerdictDrop, 100), udp(2, 2.5, policy.VerdictDrop, 100), shadow,
		stranger,
	)
	got := top.must(t, 3.5, Query{N: 5, Window: 10 * time.Second})
	want := &Report{
		By: ByPassed, Window: 3.5, Listening: 3500 * time.Millisecond, Attached: 1,
		Total: Total{Passed: 17.4, Dropped: 57.4, Shadow: 5.7, Bytes: 5742.9, History: History{
			Passed: []uint64{31, 0, 10}, Denied: []uint64{0, 101, 100}, Bytes: []uint64{3100, 0, 15_000}}},
		Busiest: []Source{
			{
				Source: address(2), Passed: Rate{14.3, 20.2}, Denied: Rate{62.9, 81.2}, Dropped: 57.1, Shadow: 5.7, Bytes: 1428.6,
				Share: 0.8197, Samples: 4, DeniedBy: &Denier{"per-client", loader.CauseLimit, "eth0", "xdp"}, Protocol: "udp", Port: 53,
				History: History{Passed: []uint64{30, 0, 0}, Denied: []uint64{0, 100, 100}, Bytes: []uint64{3000, 0, 0}},
			},
			{
				Source: address(1), Passed: Rate{3.1, 5.4}, Bytes: 4314.3, Share: 0.1803, Samples: 2, Protocol: "tcp", Port: 443,
				History: History{Passed: []uint64{1, 0, 10}, Denied: []uint64{0, 0, 0}, Bytes: []uint64{100, 0, 15_000}},
			},
		},
		Denied: []Source{
			{
				Source: address(2), Passed: Rate{14.3, 20.2}, Denied: Rate{62.9, 81.2}, Dropped: 57.1, Shadow: 5.7, Bytes: 1428.6,
				Share: 0.9955, Samples: 4, DeniedBy: &Denier{"per-client", loader.CauseLimit, "eth0", "xdp"}, Protocol: "udp", Port: 53,
				History: History{Passed: []uint64{30, 0, 0}, Denied: []uint64{0, 100, 100}, Bytes: []uint64{3000, 0, 0}},
			},
			{
				Source: address(3), Denied: Rate{0.3, 0}, Dropped: 0.3, Share: 0.0045, Samples: 1,
				DeniedBy: &Denier{"per-client", loader.CauseStranger, "eth0", "xdp"}, Protocol: "udp", Port: 53,
				History: History{Passed: []uint64{0, 0, 0}, Denied: []uint64{0, 1, 0}, Bytes: []uint64{0, 0, 0}},
			},
		},
		Events: Events{Samples: 7, Weight: 37.4, Kept: 1024},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Each list is by its own measure, and as long as was asked for.
func TestReportOrder(t *testing.T) {
	large := event(3, 1, policy.VerdictPass, 5)
	large.Bytes = 1e6
	top := heard(t, large,
		event(1, 1, policy.VerdictPass, 50), event(2, 1, policy.VerdictPass, 40), event(2, 1, policy.VerdictDrop, 7), event(1, 1, policy.VerdictDrop, 8))
	for _, c := range []struct {
		q       Query
		busiest []netip.Addr
		denied  []netip.Addr
	}{
		{Query{}, []netip.Addr{address(1), address(2), address(3)}, []netip.Addr{address(1), address(2)}},
		{Query{By: ByDropped}, []netip.Addr{address(1), address(2), address(3)}, []netip.Addr{address(1), address(2)}},
		{Query{By: ByBytes, N: 2}, []netip.Addr{address(3), address(1)}, []netip.Addr{address(1), address(2)}},
		{Query{N: 1}, []netip.Addr{address(1)}, []netip.Addr{address(1)}},
	} {
		r := top.must(t, 2, c.q)
		if got := addresses(r.Busiest); !slices.Equal(got, c.busiest) {
			t.Errorf("%+v: busiest %v, want %v", c.q, got, c.busiest)
		}
		if got := addresses(r.Denied); !slices.Equal(got, c.denied) {
			t.Errorf("%+v: denied %v, want %v", c.q, got, c.denied)
		}
	}
}

func addresses(list []Source) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, s.Source)
	}
	return all
}

// What was long ago is not shown, and its place is free for what comes.
func TestReportForgets(t *testing.T) {
	top := heard(t, event(1, 0.5, policy.VerdictPass, 1e9))
	for i := range 5 {
		top.add(event(2, 100+float64(i), policy.VerdictPass, 10))
	}
	r := top.must(t, 105, Query{N: 5})
	if len(r.Busiest) != 1 || r.Busiest[0].Source != address(2) || r.Busiest[0].Passed != (Rate{10, 8.5}) || r.Busiest[0].Share != 1 {
		t.Errorf("busiest: %+v, want the second source alone, with 10 a second", r.Busiest)
	}
	if n := len(r.Busiest[0].History.Passed); n != Seconds {
		t.Errorf("a history of %d seconds, want %d", n, Seconds)
	}
	if e, _ := top.rankings[ByPassed].Lookup(boot+400*time.Second, address(1)); e.Count > 1 {
		t.Errorf("the giant still weighs %v after 400 s", e.Count)
	}
}

// A source that took over a counter within the window may have sent something before; the error says so.
func TestReportDisplaced(t *testing.T) {
	top := heard(t)
	for i := range sources {
		e := event(0, 1, policy.VerdictPass, 1)
		e.Source = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		top.add(e)
	}
	top.add(event(1, 1.5, policy.VerdictPass, 1))
	s := top.must(t, 2, Query{N: sources}).Busiest
	at := slices.IndexFunc(s, func(s Source) bool { return s.Source == address(1) })
	if at < 0 {
		t.Fatal("the source that came last is not kept")
	}
	// 1 was on the counter, half a second old when it was taken over, and decays like it.
	if s[at].Passed.PerSecond != 0.5 || s[at].Passed.Error < 0.5 || s[at].Passed.Error > 0.6 {
		t.Errorf("passed %+v, want 0.5 with an error of one packet in 2 s", s[at].Passed)
	}
}

// The errors are what they say, for traffic that is sampled as the programs do it: a packet each time that
// the budget allows one, which stands for all since the one before.
func TestErrors(t *testing.T) {
	const rounds, seconds, packets = 60, 4, 200_000
	random := rand.New(rand.NewPCG(3, 5))
	rates := []float64{0.5, 0.3, 0.1, 0.07, 0.02, 0.009, 0.001}
	inside, all := 0, 0
	for range rounds {
		top := heard(t)
		sent := make([]uint64, len(rates))
		weight := uint64(0)
		for i := range packets {
			from, x := 0, random.Float64()
			for x -= rates[0]; x > 0 && from < len(rates)-1; x -= rates[from] {
				from++
			}
			sent[from]++
			if weight++; weight >= 50 {
				top.add(event(from, seconds*float64(i)/packets, policy.VerdictPass, weight))
				weight = 0
			}
		}
		for _, s := range top.must(t, seconds, Query{Window: 10 * time.Second}).Busiest {
			n := float64(sent[s.Source.As4()[3]]) / seconds
			if all++; math.Abs(s.Passed.PerSecond-n) <= s.Passed.Error {
				inside++
			}
		}
	}
	t.Logf("%d of %d", inside, all)
	if share := float64(inside) / float64(all); share < 0.94 || all < 6*rounds {
		t.Errorf("%d of %d estimates are as good as they say, want 19 of 20", inside, all)
	}
}

func TestReportBeforeAnything(t *testing.T) {
	r := newRig(0).Top
	report := r.must(t, 1, Query{})
	got, err := json.Marshal(report)
	want := `{"by":"passed","window_seconds":0,"listening_ns":0,"attachments":0,` +
		`"total":{"passed_per_second":0,"dropped_per_second":0,"shadow_dropped_per_second":0,"bytes_per_second":0,"counted":null,` +
		`"history":{"passed":null,"denied":null,"bytes":null}},"busiest":[],"denied":[],` +
		`"events":{"samples":0,"packets_per_sample":0,"lost":0,"sources_kept":1024}}`
	if err != nil || string(got) != want {
		t.Errorf("%v, got\n%s, want\n%s", err, got, want)
	}
	if _, err := r.Report(0, Query{N: -1}); !errors.Is(err, ErrQuery) {
		t.Errorf("n -1: %v", err)
	}
}

// The whole life: nobody listens until somebody asks; then until nobody asks any more.
func TestRunOnDemand(t *testing.T) {
	r := newRig(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Top.Run(ctx) }()
	for range 2 {
		if report := r.must(t, 0, Query{}); report.Listening != 0 {
			t.Errorf("somebody listens before anybody asked: %+v", report)
		}
		<-r.runs
		r.events <- event(1, 1, policy.VerdictPass, 1)
		r.events <- event(1, 1, policy.VerdictPass, 1) // the first one is in now
		r.now.Store(int64(boot + 2*time.Minute))
		eventually(t, "nobody to listen", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return !r.listening
		})
		r.now.Store(int64(boot))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	r := newRig(0)
	var passed atomic.Uint64
	r.attachments = func() ([]loader.Attachment, error) {
		r.now.Add(int64(time.Second))
		a := attachment(passed.Add(100), 10*passed.Load())
		a.Policies = a.Policies[:1]
		return []loader.Attachment{*a}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Top.Run(ctx) }()
	<-r.runs
	r.lost.Store(3)
	var report *Report
	eventually(t, "exact counts", func() bool {
		report = r.must(t, 3, Query{})
		return report.Total.Counted != nil
	})
	if c := report.Total.Counted; c.Passed == nil || *c.Passed != 100 || c.Dropped != 1000 || report.Events.Lost != 3 {
		t.Errorf("counted %+v, lost %d, want 100, 1000 and 3", c, report.Events.Lost)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// eventually looks until what the test waits for has happened.
func eventually(t *testing.T, what string, seen func() bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.After(10 * time.Second)
	for !seen() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/internal/demo"
	"github.com/weir-limiter/weir/internal/testutil"
)

// demoResult is a demo as it went once.
func demoResult() *demo.Result {
	const before, with = 2 * time.Second, 10 * time.Second
	return &demo.Result{
		Duration: with,
		Before: demo.Measurement{
			Elapsed: before,
			Clients: []demo.Client{
				{Name: "good client", Kind: demo.KindGood, Family: "ipv4", Sent: 400, Passed: 400, Rate: 200.04},
				{Name: "IPv6 flooder", Kind: demo.KindFlooder, Family: "ipv6", Sent: 100_000, Passed: 99_000, Dropped: 1000, Rate: 49_500},
			},
			Exchanges: demo.Exchanges{OK: 200, P50: 114_687, P99: 2_752_511},
		},
		With: demo.Measurement{
			Elapsed: with + 30*time.Millisecond,
			Clients: []demo.Client{
				{Name: "good client", Kind: demo.KindGood, Family: "ipv4", Sent: 2000, Passed: 1999, Dropped: 1, Rate: 199.96, Verdict: "lost 1 packet"},
				{Name: "IPv6 flooder", Kind: demo.KindFlooder, Family: "ipv6", Sent: 500_000, Passed: 10_999, Dropped: 489_001, Rate: 1000.5,
					OK: true, Verdict: "held to 1000/s"},
				{Name: "spoofed flood", Kind: demo.KindSpoofed, Family: "ipv4", Sent: 500_000, Passed: 10_800, Dropped: 489_200, Rate: 1000,
					OK: true, Verdict: "strangers held to 1000/s"},
			},
			Exchanges: demo.Exchanges{OK: 998, Failed: 2, P50: 131_071, P99: 4_194_303},
		},
		Kernel:   demo.Kernel{Passed: 24_002, Dropped: 979_002, Strangers: 489_200, Segments: 1004},
		Attempts: 1,
		Summary:  "Not proved: the good client lost 1 of 2,000 datagrams; 2 exchanges of the good client failed, of 1,000.",
	}
}

func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }

func TestDemoTable(t *testing.T) {
	r := demoResult()
	started := demo.Measurement{Elapsed: 500 * time.Millisecond, Clients: r.Before.Clients[:1], Exchanges: demo.Exchanges{}}
	for _, c := range []struct {
		name     string
		progress demo.Progress
		want     string
	}{
		{"begun", demo.Progress{Of: 2 * time.Second, Now: started}, lines(
			"Without weir ━━━━━━━━━━━━━━━━━━━──────────────────────────────────────────────────────── 0.5 of 2s",
			"CLIENT       SENT  PASSED  DROPPED   RATE  LIMIT  VERDICT",
			"good client   400     400        0  200/s   none  all of it gets through",
			"TCP exchanges of the good client: 0 ok, 0 failed, half within 0s, 99 % within 0s",
			"")},
		{"without weir", demo.Progress{Of: 2 * time.Second, Done: true, Now: r.Before}, lines(
			"Without weir ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2.0 of 2s",
			"CLIENT           SENT  PASSED  DROPPED      RATE  LIMIT  VERDICT",
			"good client       400     400        0     200/s   none  all of it gets through",
			"IPv6 flooder  100,000  99,000    1,000  49,500/s   none",
			"TCP exchanges of the good client: 200 ok, 0 failed, half within 115µs, 99 % within 2.75ms",
			"")},
		{"with weir", demo.Progress{Attached: true, Of: 10 * time.Second, Done: true, Now: r.With}, lines(
			"With weir on the gateway's eth0 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 10.0 of 10s",
			"CLIENT            SENT  PASSED  DROPPED     RATE       LIMIT  VERDICT",
			"good client      2,000   1,999        1    200/s      1000/s  lost 1 packet",
			"IPv6 flooder   500,000  10,999  489,001  1,001/s      1000/s  held to 1000/s",
			"spoofed flood  500,000  10,800  489,200  1,000/s  1000/s new  strangers held to 1000/s",
			"TCP exchanges of the good client: 998 ok, 2 failed, half within 131µs, 99 % within 4.19ms",
			"")},
		{"once more", demo.Progress{Attached: true, Attempt: 2, Of: 10 * time.Second, Now: started}, lines(
			"This machine was too busy, so once more: with weir on the gateway's eth0 ━───────────── 0.5 of 10s",
			"CLIENT       SENT  PASSED  DROPPED   RATE   LIMIT  VERDICT",
			"good client   400     400        0  200/s  1000/s",
			"TCP exchanges of the good client: 0 ok, 0 failed, half within 0s, 99 % within 0s",
			"")},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			writeDemoTable(&page{w: &out}, c.progress)
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Colours are for the verdicts and for what failed.
func TestDemoColours(t *testing.T) {
	var out bytes.Buffer
	r := demoResult()
	p := &page{w: &out, colour: true}
	writeDemoTable(p, demo.Progress{Attached: true, Of: time.Second, Done: true, Now: r.With})
	writeDemoSummary(p, r)
	for _, want := range []string{
		"\x1b[31mlost 1 packet\x1b[0m", "\x1b[33mheld to 1000/s\x1b[0m", "\x1b[33mstrangers held to 1000/s\x1b[0m",
		"\x1b[31m2 failed\x1b[0m", "\x1b[31mNot proved: ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%q", want, out.String())
		}
	}
}

// On a terminal a table is written over until its part is over; elsewhere it appears once, and nothing moves.
func TestDemoScreen(t *testing.T) {
	r := demoResult()
	first := demo.Progress{Of: 2 * time.Second, Now: r.Before}
	last := first
	last.Done = true
	with := demo.Progress{Attached: true, Of: 10 * time.Second, Now: r.With}
	const up = "\x1b[6A" // title, heading, two clients, exchanges, blank
	for _, c := range []struct {
		name    string
		inPlace bool
		moves   int
		tables  int
	}{
		{"terminal", true, 2, 4},
		{"file", false, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			s := &demoScreen{out: &out, inPlace: c.inPlace}
			for _, p := range []demo.Progress{first, first, last, with} {
				s.show(p)
			}
			got := out.String()
			if n := strings.Count(got, up); n != c.moves || strings.Count(got, "\x1b[") != n+strings.Count(got, "\x1b[K\n") {
				t.Errorf("%d moves, want %d:\n%q", n, c.moves, got)
			}
			if n := strings.Count(got, "CLIENT"); n != c.tables {
				t.Errorf("%d tables, want %d:\n%q", n, c.tables, got)
			}
			if n := strings.Count(got, "per-client   1000/s for each source; new_sources: 1000/s that were never seen before\n"); n != 1 {
				t.Errorf("introduced %d times", n)
			}
		})
	}
}

// The first impression is made on a terminal of 100 columns.
func TestDemoFitsItsWidth(t *testing.T) {
	var out bytes.Buffer
	r := demoResult()
	p := &page{w: &out}
	writeDemoTable(p, demo.Progress{Attached: true, Of: 10 * time.Second, Now: r.With})
	writeDemoSummary(p, r)
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(line)) - 1; n > demoWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestDemoSummary(t *testing.T) {
	var out bytes.Buffer
	writeDemoSummary(&page{w: &out}, demoResult())
	want := lines(
		"Not proved: the good client lost 1 of 2,000 datagrams; 2 exchanges of the good client failed, of",
		"1,000.",
		"The kernel counted 24,002 passes and 979,002 drops: 489,200 of strangers, and 0 by the ban.",
		"",
		"next  weir attach eth0 -c weir.yaml   hold a real interface to a file's policies (see README.md)",
		"undo  weir detach eth0                take weir off again, and leave nothing behind")
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, nil},
		{"one", 5, []string{"one"}},
		{"one two", 7, []string{"one two"}},
		{"one two", 6, []string{"one", "two"}},
		{"größe größe", 11, []string{"größe größe"}}, // runes, not bytes
		{"a longest b", 3, []string{"a", "longest", "b"}},
	} {
		if got := wrap(c.text, c.width); !slices.Equal(got, c.want) {
			t.Errorf("wrap(%q, %d) = %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

func TestDemoJSON(t *testing.T) {
	got, err := json.Marshal(demoJSON(demoResult()))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"duration":"10s","policy":{"limit":1000,"window":"1s","burst":1000,"new_sources":1000,"network":3000},"clients":[` +
		`{"name":"good client","kind":"good","family":"ipv4","sent":2000,"passed":1999,"dropped":1,"limit":"1000/s","rate":200,"verdict":"lost 1 packet"},` +
		`{"name":"IPv6 flooder","kind":"flooder","family":"ipv6","sent":500000,"passed":10999,"dropped":489001,"limit":"1000/s","rate":1000.5,"verdict":"held to 1000/s"},` +
		`{"name":"spoofed flood","kind":"spoofed","family":"ipv4","sent":500000,"passed":10800,"dropped":489200,"limit":"1000/s new","rate":1000,"verdict":"strangers held to 1000/s"}],` +
		`"exchanges":{"ok":998,"failed":2,"p50_ns":131071,"p99_ns":4194303},"kernel":{"passed":24002,"dropped":979002,"strangers":489200,"banned":0},` +
		`"before":{"clients":[{"name":"good client","kind":"good","family":"ipv4","sent":400,"passed":400,"dropped":0,"limit":"1000/s","rate":200},` +
		`{"name":"IPv6 flooder","kind":"flooder","family":"ipv6","sent":100000,"passed":99000,"dropped":1000,"limit":"1000/s","rate":49500}],` +
		`"exchanges":{"ok":200,"failed":0,"p50_ns":114687,"p99_ns":2752511}},"attempts":1,"proved":false,` +
		`"summary":"Not proved: the good client lost 1 of 2,000 datagrams; 2 exchanges of the good client failed, of 1,000."}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDemoUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"demo", "--duration", "2s"}, "weir: --duration 2s: want 3s to 5m0s\n"},
		{[]string{"demo", "--duration", "6m"}, "weir: --duration 6m0s: want 3s to 5m0s\n"},
	} {
		if r := weir(t, c.args...); r != (result{exitUsage, "", c.want}) {
			t.Errorf("%v: got %+v, want %s", c.args, r, c.want)
		}
	}
}

// A demo that is stopped before there is anything to see says so in one line.
func TestDemoStopped(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, err bytes.Buffer
	code := run(ctx, &env{out: &out, err: &err, stateDir: "/sys/fs/bpf/weir"}, []string{"demo"})
	want := "weir: " + demo.ErrStopped.Error() + "\n"
	if code != exitFailure || out.String() != "" || err.String() != want {
		t.Errorf("exit code %d, output %q, error %q, want %q", code, out.String(), err.String(), want)
	}
}

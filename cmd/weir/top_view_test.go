package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/loader"
)

// topReport is a report of a flooder, of a client that a policy in shadow would hold, and of a quiet one.
func topReport() *top.Report {
	counted := 98_004.0
	flooder := top.Source{
		Source: netip.MustParseAddr("198.51.100.7"), Passed: top.Rate{PerSecond: 1003.2, Error: 121.4},
		Denied: top.Rate{PerSecond: 48_997, Error: 1204}, Dropped: 48_997, Bytes: 64_205, Share: 0.0102, Samples: 900,
		DeniedBy: &top.Denier{Policy: "per-client", Cause: loader.CauseLimit, Interface: "eth0", Hook: "xdp"},
		Protocol: "udp", Port: 53,
		History: top.History{
			Passed: []uint64{1200, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000},
			Denied: []uint64{0, 0, 1, 6000, 12_000, 18_000, 24_000, 30_000, 36_000, 42_000, 48_000, 48_000},
			Bytes:  []uint64{0, 64_000, 64_000, 64_000, 64_000, 64_000, 64_000, 64_000, 64_000, 64_000, 64_000, 64_000},
		},
	}
	busy := top.Source{
		Source: netip.MustParseAddr("2001:db8:1234:5678::9"), Passed: top.Rate{PerSecond: 97_000, Error: 1321},
		Denied: top.Rate{PerSecond: 12.4, Error: 24.8}, Shadow: 12.4, Bytes: 123_456_789, Share: 0.9897, Samples: 2000,
		DeniedBy: &top.Denier{Policy: "a-policy-with-a-name-as-long-as-they-can-be", Cause: loader.CauseStranger, Interface: "eth0", Hook: "xdp"},
		Protocol: "tcp", Port: 443,
		History: top.History{
			Passed: []uint64{97_000, 97_000, 80_000, 97_000, 60_000, 97_000, 30_000, 97_000, 97_000, 97_000, 97_000, 97_000},
			Denied: make([]uint64, 12), Bytes: make([]uint64, 12),
		},
	}
	quiet := top.Source{
		Source: netip.MustParseAddr("192.0.2.1"), Passed: top.Rate{PerSecond: 0.4, Error: 0.8}, Bytes: 33, Share: 0.0001,
		Samples: 1, Protocol: "icmp", History: top.History{Passed: []uint64{0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0}},
	}
	return &top.Report{
		By: top.ByPassed, Window: 5.2, Listening: 12e9, Attached: 2,
		Total: top.Total{
			Passed: 98_003.6, Dropped: 48_997, Shadow: 12.4, Bytes: 123_521_027,
			Counted: &top.Counted{Passed: &counted, Dropped: 48_911},
			History: top.History{
				Passed: []uint64{98_000, 98_000, 81_000, 98_000, 61_000, 98_000, 31_000, 98_000, 98_000, 98_000, 98_000, 98_000},
				Denied: flooder.History.Denied,
			},
		},
		Busiest: []top.Source{busy, flooder, quiet}, Denied: []top.Source{withShare(flooder, 0.9997), withShare(busy, 0.0003)},
		Events: top.Events{Samples: 2901, Weight: 50.7, Kept: 1024},
	}
}

func withShare(s top.Source, share float64) top.Source {
	s.Share = share
	return s
}

func topText(r *top.Report, l topLayout) string {
	var out bytes.Buffer
	writeTop(&page{w: &out}, r, l)
	return out.String()
}

func TestTopView(t *testing.T) {
	want := lines(
		"weir top  2 attachments · last 5.2 s · 1 of 51 packets sampled",
		"passed     98,004/s  counted 98,004/s                     124 MB/s  ██▇█▅█▃█████",
		"dropped    48,997/s  counted 48,911/s                                 ▁▁▂▃▄▅▆▇██",
		"in shadow      12/s  passed, and would have been dropped",
		"",
		"busiest, by packets that passed",
		"SOURCE                 PASSED/s       ±  DENIED/s    SHARE  MOSTLY   DENIED BY                                    LAST 12 s",
		"2001:db8:1234:5678::9    97,000  ±1,321        12   99.0 %  tcp/443  a-policy-with-a-name-as… (stranger), shadow  ██▇█▅█▃█████",
		"198.51.100.7              1,003    ±121    48,997    1.0 %  udp/53   per-client                                   █▇▇▇▇▇▇▇▇▇▇▇",
		"192.0.2.1                   0.4    ±0.8         0    0.0 %  icmp                                                          █",
		"",
		"most denied",
		"SOURCE                 DENIED/s       ±  PASSED/s    SHARE  MOSTLY   DENIED BY                                    LAST 12 s",
		"198.51.100.7             48,997  ±1,204     1,003  100.0 %  udp/53   per-client                                     ▁▁▂▃▄▅▆▇██",
		"2001:db8:1234:5678::9        12     ±25    97,000    0.0 %  tcp/443  a-policy-with-a-name-as… (stranger), shadow")
	if diff := cmp.Diff(want, topText(topReport(), topLayout{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What there is no room for goes: lines of the past first, then sources.
func TestTopLayout(t *testing.T) {
	long := topReport()
	for len(long.Busiest) < 50 {
		long.Busiest = append(long.Busiest, long.Busiest[2])
	}
	for _, c := range []struct {
		name           string
		report         *top.Report
		layout         topLayout
		lines, widest  int
		busiest, spark int // sources, and columns of the panels' lines of the past
	}{
		{"no end", long, topLayout{}, 62, 129, 50, 12},
		{"wide", long, topLayout{width: 180, height: 40, live: true}, 40, 174, 26, 60},
		{"just wide enough for a short past", long, topLayout{width: 124, height: 40, live: true}, 40, 124, 26, 10},
		{"narrow", long, topLayout{width: 100, height: 40, live: true}, 40, 112, 26, 0},
		{"low", long, topLayout{width: 180, height: 15, live: true}, 15, 174, 1, 60},
		{"far too low", long, topLayout{width: 180, height: 3, live: true}, 14, 174, 1, 60},
		{"more room than needed", topReport(), topLayout{width: 180, height: 60, live: true}, 17, 174, 3, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := topText(c.report, c.layout)
			all := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			widest := 0
			for _, line := range all {
				widest = max(widest, utf8.RuneCountInString(line))
			}
			_, panel, _ := strings.Cut(out, "SOURCE ")
			panel, _, _ = strings.Cut(panel, "\n\n")
			spark := 0
			_, _ = fmt.Sscanf(panel[strings.Index(panel+"LAST ", "LAST "):]+" ", "LAST %d", &spark)
			if len(all) != c.lines || widest > c.widest || strings.Count(panel, "\n") != c.busiest || spark != c.spark {
				t.Errorf("%d lines of up to %d columns, %d busiest with a past of %d, want %d, %d, %d and %d:\n%s",
					len(all), widest, strings.Count(panel, "\n"), spark, c.lines, c.widest, c.busiest, c.spark, out)
			}
		})
	}
}

func TestTopViewOfLittle(t *testing.T) {
	counted := topReport()
	counted.By, counted.Total.Shadow, counted.Events = top.ByDropped, 0, top.Events{Samples: 1, Weight: 1, Lost: 1234}
	counted.Total.Counted, counted.Busiest, counted.Trouble = nil, nil, "it is gone"
	counted.Denied = counted.Denied[:1]
	for _, c := range []struct {
		name   string
		report *top.Report
		layout topLayout
		want   string
	}{
		{"nothing yet", &top.Report{By: top.ByBytes}, topLayout{live: true}, lines(
			"weir top  0 attachments · listening; the first figures come in a moment",
			"",
			"p packets   d denied   b bytes   q quit")},
		{"no packets", &top.Report{By: top.ByPassed, Window: 2, Attached: 1}, topLayout{}, lines(
			"weir top  1 attachment · no packets in the last 2.0 s",
			"passed   0/s    0 B/s",
			"dropped  0/s",
			"",
			"busiest, by packets that passed",
			"no packet passed",
			"",
			"most denied",
			"nobody was denied")},
		{"denied first, and trouble", counted, topLayout{}, lines(
			"weir top  2 attachments · last 5.2 s · every packet sampled · 1,234 samples lost",
			"what is attached can't be read: it is gone",
			"passed   98,004/s    124 MB/s  ██▇█▅█▃█████",
			"dropped  48,997/s                ▁▁▂▃▄▅▆▇██",
			"",
			"most denied",
			"SOURCE        DENIED/s       ±  PASSED/s    SHARE  MOSTLY  DENIED BY   LAST 12 s",
			"198.51.100.7    48,997  ±1,204     1,003  100.0 %  udp/53  per-client    ▁▁▂▃▄▅▆▇██",
			"",
			"busiest, by packets that passed",
			"no packet passed")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, topText(c.report, c.layout)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTopByBytes(t *testing.T) {
	r := topReport()
	r.By, r.Busiest, r.Denied = top.ByBytes, []top.Source{withShare(r.Busiest[1], 0.0005)}, r.Denied[:1]
	want := lines(
		"busiest, by bytes that passed",
		"SOURCE         BYTES/s  PASSED/s  DENIED/s    SHARE  MOSTLY  DENIED BY   LAST 12 s",
		"198.51.100.7   64.2 kB     1,003    48,997    0.1 %  udp/53  per-client   ███████████",
		"",
		"most denied",
		"SOURCE        DENIED/s         ±  PASSED/s    SHARE  MOSTLY  DENIED BY   LAST 12 s",
		"198.51.100.7    48,997    ±1,204     1,003  100.0 %  udp/53  per-client    ▁▁▂▃▄▅▆▇██")
	if out := topText(r, topLayout{}); !strings.Contains(out, want) {
		t.Errorf("want\n%sin\n%s", want, out)
	}
}

// Colours tell what passed from what was dropped and from what would have been.
func TestTopColours(t *testing.T) {
	var out bytes.Buffer
	writeTop(&page{w: &out, colour: true}, topReport(), topLayout{live: true})
	for _, want := range []string{
		"\x1b[1mweir top\x1b[0m", "\x1b[31m48,997/s\x1b[0m", "\x1b[31m48,997\x1b[0m", "\x1b[33m12\x1b[0m", "\x1b[2m±1,204\x1b[0m",
		"\x1b[1mp packets\x1b[0m   \x1b[2md denied\x1b[0m", "\x1b[32m" + strings.Repeat(" ", 48) + "██▇█▅█▃█████\x1b[0m",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%q", want, out.String())
		}
	}
}

func TestTopFigures(t *testing.T) {
	by := func(policy string, cause loader.Cause, dropped float64) string {
		return deniedBy(&top.Source{Dropped: dropped, DeniedBy: &top.Denier{Policy: policy, Cause: cause}})
	}
	for _, c := range []struct{ got, want string }{
		{rateText(0), "0"},
		{rateText(0.04), "0.0"},
		{rateText(2), "2"},
		{rateText(9.94), "9.9"},
		{rateText(9.96), "10"},
		{rateText(1234.5), "1,235"},
		{bytesText(0), "0 B"},
		{bytesText(999.4), "999 B"},
		{bytesText(999.6), "1 kB"},
		{bytesText(1234), "1.23 kB"},
		{bytesText(99_940), "99.9 kB"},
		{bytesText(99_960), "100 kB"},
		{bytesText(999_600), "1 MB"},
		{bytesText(5e16), "50000 TB"},
		{sparkline(nil, 3), "   "},
		{sparkline([]uint64{0, 0}, 3), "   "},
		{sparkline([]uint64{1, 2, 3, 4, 5, 6, 7, 8}, 8), "▁▂▃▄▅▆▇█"},
		{sparkline([]uint64{9, 1, 1 << 63, 1<<64 - 1}, 3), "▁▄█"},
		{by("a", loader.CauseLimit, 1), "a"},
		{by("a", loader.CauseLimit, 0), "a, shadow"},
		{by("a", loader.CauseStranger, 1), "a (stranger)"},
		{by("a", loader.CauseFragment, 1), "a (fragment)"},
		{by("", loader.CauseLimit, 1), "unknown policy"},
		{by("", loader.CauseBan, 1), "ban"},
		{by("", loader.CauseDeny, 1), "deny list"},
		{by("exactly-twenty-four-long", loader.CauseLimit, 1), "exactly-twenty-four-long"},
		{by("this-is-twenty-five-long-", loader.CauseLimit, 1), "this-is-twenty-five-lon…"},
		{deniedBy(&top.Source{}), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

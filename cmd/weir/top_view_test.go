package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

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
		Busiest: []top.Source{busy, flooder, quiet}, Denied: []top.Source{flooder, busy},
		Events: top.Events{Samples: 2901, Weight: 50.7, Kept: 1024},
	}
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
		"SOURCE                 PASSED/s       ±  DENIED/s   SHARE  MOSTLY   DENIED BY                                     LAST 12 s",
		"2001:db8:1234:5678::9    97,000  ±1,321        12  99.0 %  tcp/443  a-policy-with-a-name-as… (stranger), shadow  ██▇█▅█▃█████",
		"198.51.100.7              1,003    ±121    48,997   1.0 %  udp/53   per-client                                   █▇▇▇▇▇▇▇▇▇▇▇",
		"192.0.2.1                   0.4    ±0.8         0   0.0 %  icmp                                                          █",
		"",
		"most denied",
		"SOURCE                 DENIED/s       ±  PASSED/s   SHARE  MOSTLY   DENIED BY                                    LAST 12 s",
		"198.51.100.7             48,997  ±1,204     1,003   1.0 %  udp/53   per-client                                     ▁▁▂▃▄▅▆▇██",
		"2001:db8:1234:5678::9        12     ±25    97,000  99.0 %  tcp/443  a-policy-with-a-name-as… (stranger), shadow")
	if diff := cmp.Diff(want, topText(topReport(), topLayout{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
var _ = strings.Contains

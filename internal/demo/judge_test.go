package demo

import (
	"strings"
	"testing"
	"time"
)

// In ten seconds the policy grants 200 + 10 * 1000 packets.
const ten = 10 * time.Second

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name   string
		client Client
		ok     bool
		words  string
	}{
		{"good", Client{Kind: KindGood, Sent: 2000, Passed: 2000}, true, "within its limit"},
		{"good lost one", Client{Kind: KindGood, Sent: 2000, Passed: 1999, Dropped: 1}, false, "lost 1 packet"},
		{"good lost more", Client{Kind: KindGood, Sent: 2000, Passed: 1000, Dropped: 1000}, false, "lost 1,000 packets"},
		{"good silent", Client{Kind: KindGood}, false, "within its limit"},
		{"held", flooder(500_000, 10_200), true, "held to 1000/s"},
		{"held, within the tolerance", flooder(500_000, 10_302), true, "held to 1000/s"},
		{"over", flooder(500_000, 10_303), false, "over its limit"},
		{"over, and sent little", flooder(10_400, 10_400), false, "over its limit"},
		{"its least share", flooder(500_000, 9_894), true, "held to 1000/s"},
		{"below its share", flooder(500_000, 9_893), false, "held below its limit"},
		{"nothing gets through", flooder(500_000, 0), false, "held below its limit"},
		{"sent little", flooder(20_399, 10_000), false, "sent too little to tell"},
		{"sent nothing", flooder(0, 0), false, "sent too little to tell"},
		// A burst of 200 and 1 ms: three packets are more than 1 %.
		{"a few too many", Client{Kind: KindFlooder, Active: time.Millisecond, Sent: 500, Passed: 204}, true, "held to 1000/s"},
		{"strangers", Client{Kind: KindSpoofed, Sent: 1_000_000, Passed: 990_000, Dropped: 10_000}, true, "strangers within their limits"},
		{"strangers dropped", Client{Kind: KindSpoofed, Sent: 1_000_000, Passed: 989_999, Dropped: 10_001}, false, "strangers, and dropped"},
		{"no strangers", Client{Kind: KindSpoofed}, false, "strangers within their limits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if ok, words := verdict(c.client); ok != c.ok || words != c.words {
				t.Errorf("got %v %q, want %v %q", ok, words, c.ok, c.words)
			}
		})
	}
}

func flooder(sent, passed uint64) Client {
	return Client{Name: "IPv4 flooder", Kind: KindFlooder, Active: ten, Sent: sent, Passed: passed, Dropped: sent - passed}
}

// flawless is what was measured on a machine with nothing else to do.
func flawless() (Measurement, Kernel) {
	six := flooder(500_000, 10_199)
	six.Name = "IPv6 flooder"
	return Measurement{
		Elapsed: ten,
		Clients: []Client{
			{Name: "good client", Kind: KindGood, Active: ten, Sent: 2000, Passed: 2000},
			flooder(500_000, 10_200),
			six,
			{Name: "spoofed flood", Kind: KindSpoofed, Active: ten, Sent: 1_000_000, Passed: 1_000_000},
		},
		Exchanges: Exchanges{OK: 1000, P50: 150 * time.Microsecond, P99: 2 * time.Millisecond},
	}, Kernel{Passed: 1_023_403, Dropped: 979_601, Segments: 1004}
}

// What a reader is told, to the letter.
func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Measurement, *Kernel)
		want   string
	}{
		{"flawless", func(*Measurement, *Kernel) {},
			"In 10.0 s, in which 1000/s and a burst of 200 grant a source 10,200 packets, weir let through 10,200 of the IPv4 flooder's " +
				"500,000 and 10,199 of the IPv6 flooder's 500,000, while the good client lost none of its 2,000 datagrams and 1,000 TCP " +
				"exchanges amid 1,000,000 packets from random sources."},
		{"some of a flood lost on the cable", func(m *Measurement, k *Kernel) {
			m.Clients[3].Passed, m.Clients[3].Dropped = 999_000, 1000
			k.Passed -= 1000
		}, "In 10.0 s, in which 1000/s and a burst of 200 grant a source 10,200 packets, weir let through 10,200 of the IPv4 flooder's " +
			"500,000 and 10,199 of the IPv6 flooder's 500,000, while the good client lost none of its 2,000 datagrams and 1,000 TCP " +
			"exchanges amid 1,000,000 packets from random sources."},
		{"flooder over its limit", func(m *Measurement, k *Kernel) {
			m.Clients[1] = flooder(500_000, 20_200)
			k.Passed, k.Dropped = k.Passed+10_000, k.Dropped-10_000
		}, "Not proved: the IPv4 flooder was over its limit: 20,200 of 500,000 packets got through, and 1000/s and a burst of 200 in " +
			"10.0 s grant 10,200."},
		{"good client dropped by weir", func(m *Measurement, k *Kernel) {
			m.Clients[0].Passed, m.Clients[0].Dropped = 1990, 10
			k.Passed, k.Dropped = k.Passed-10, k.Dropped+10
		}, "Not proved: the good client lost 10 of 2,000 datagrams."},
		{"good client's packet lost elsewhere", func(m *Measurement, k *Kernel) {
			m.Clients[0].Passed, m.Clients[0].Dropped = 1999, 1
			k.Passed--
		}, "Not proved: the good client lost 1 of 2,000 datagrams; 1 packet got lost outside weir (is this machine very busy?)."},
		{"strangers dropped", func(m *Measurement, k *Kernel) {
			m.Clients[3].Passed, m.Clients[3].Dropped = 500_000, 500_000
			k.Passed, k.Dropped = k.Passed-500_000, k.Dropped+500_000
		}, "Not proved: 500,000 of 1,000,000 packets of the spoofed flood were dropped, though nearly each came from a source of its own."},
		{"lost elsewhere", func(m *Measurement, k *Kernel) { k.Dropped -= 100_000 },
			"Not proved: 100,000 packets got lost outside weir (is this machine very busy?)."},
		{"passes that did not arrive", func(m *Measurement, k *Kernel) { k.Passed += 4 },
			"Not proved: weir counted 1,023,407 packets as passed, and the application received 1,023,403."},
		{"arrivals that did not pass", func(m *Measurement, k *Kernel) { k.Passed -= 4 },
			"Not proved: weir counted 1,023,399 packets as passed, and the application received 1,023,403."},
		{"drops that arrived", func(m *Measurement, k *Kernel) { k.Dropped += 4 },
			"Not proved: weir counted 979,605 drops, and the application missed 979,601."},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, k := flawless()
			c.change(&m, &k)
			r := judge(ten, m, m, k)
			if r.Summary != c.want {
				t.Errorf("got  %s\nwant %s", r.Summary, c.want)
			}
			if r.Proved == strings.HasPrefix(c.want, "Not proved") {
				t.Errorf("proved %v", r.Proved)
			}
		})
	}
}

func TestSNMPCounter(t *testing.T) {
	const text = "Ip: Forwarding InReceives\nIp: 1 55\nTcp: RtoMin InSegs OutSegs\nTcp: 200 1234 17\nUdp: InDatagrams\n"
	for _, c := range []struct {
		group, name string
		want        uint64
		fails       bool
	}{
		{"Tcp:", "InSegs", 1234, false},
		{"Ip:", "InReceives", 55, false},
		{"Tcp:", "InErrs", 0, true},
		{"Udp:", "InDatagrams", 0, true}, // names without values
		{"Sctp:", "InSegs", 0, true},
		{"", "", 0, true},
	} {
		if n, err := snmpCounter(text, c.group, c.name); n != c.want || (err != nil) != c.fails {
			t.Errorf("%s %s: got %d, %v; want %d, failure %v", c.group, c.name, n, err, c.want, c.fails)
		}
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{thousands(0), "0"},
		{thousands(999), "999"},
		{thousands(1000), "1,000"},
		{thousands(12_345_678), "12,345,678"},
		{count(0, "packet"), "0 packets"},
		{count(1, "packet"), "1 packet"},
		{count(2000, "drop"), "2,000 drops"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

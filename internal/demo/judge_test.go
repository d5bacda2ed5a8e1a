package demo

import (
	"strings"
	"testing"
	"time"
)

// In ten seconds the policy grants 1000 + 10 * 1000 packets.
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
		{"held", flooder(500_000, 11_000), true, "held to 1000/s"},
		{"held, within the tolerance", flooder(500_000, 11_110), true, "held to 1000/s"},
		{"over", flooder(500_000, 11_111), false, "over its limit"},
		{"over, and sent little", flooder(11_400, 11_400), false, "over its limit"},
		{"its least share", flooder(500_000, 10_670), true, "held to 1000/s"},
		{"below its share", flooder(500_000, 10_669), false, "held below its limit"},
		{"nothing gets through", flooder(500_000, 0), false, "held below its limit"},
		{"sent little", flooder(21_999, 10_900), false, "sent too little to tell"},
		{"sent nothing", flooder(0, 0), false, "sent too little to tell"},
		// A burst of 1000 and 1 ms: a lease is more than 1 %.
		{"a few too many", Client{Kind: KindFlooder, Active: time.Millisecond, Sent: 5000, Passed: 1063}, true, "held to 1000/s"},
		// A lease of 1/16 of the burst may come on top, where 1 % is less.
		{"a lease more", Client{Kind: KindFlooder, Active: time.Second, Sent: 50_000, Passed: 2062}, true, "held to 1000/s"},
		{"more than a lease", Client{Kind: KindFlooder, Active: time.Second, Sent: 50_000, Passed: 2063}, false, "over its limit"},
		{"botnet", Client{Kind: KindBotnet, Active: ten, Sent: 200_000, Passed: 33_000}, true, "together held to 3000/s"},
		{"botnet, its members held to theirs", Client{Kind: KindBotnet, Active: ten, Sent: 200_000, Passed: 200_000}, false, "over its limit"},
		{"botnet silenced", Client{Kind: KindBotnet, Active: ten, Sent: 200_000}, false, "held below its limit"},
		{"strangers", Client{Kind: KindSpoofed, Active: ten, Sent: 500_000, Passed: 10_800}, true, "strangers held to 1000/s"},
		{"strangers, with their whole burst", Client{Kind: KindSpoofed, Active: ten, Sent: 500_000, Passed: 11_110}, true, "strangers held to 1000/s"},
		{"strangers at will", Client{Kind: KindSpoofed, Active: ten, Sent: 500_000, Passed: 500_000}, false, "over its limit"},
		{"no stranger at all", Client{Kind: KindSpoofed, Active: ten, Sent: 500_000, Passed: 1000}, false, "held below its limit"},
		{"no strangers", Client{Kind: KindSpoofed}, false, "sent too little to tell"},
		{"banned", Client{Kind: KindBanned, Sent: 10_000, Dropped: 10_000}, true, "nothing gets through"},
		{"banned in vain", Client{Kind: KindBanned, Sent: 10_000, Passed: 1, Dropped: 9_999}, false, "1 packet got through"},
		{"banned, and silent", Client{Kind: KindBanned}, false, "nothing gets through"},
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
	six := flooder(250_000, 10_999)
	six.Name = "IPv6 flooder"
	return Measurement{
		Elapsed: ten,
		Clients: []Client{
			{Name: "good client", Kind: KindGood, Active: ten, Sent: 2000, Passed: 2000},
			flooder(250_000, 11_000),
			six,
			{Name: "200-host botnet", Kind: KindBotnet, Active: ten, Sent: 200_000, Passed: 33_000, Dropped: 167_000},
			{Name: "spoofed flood", Kind: KindSpoofed, Active: ten, Sent: 500_000, Passed: 10_800, Dropped: 489_200},
			{Name: "banned host", Kind: KindBanned, Active: ten, Sent: 10_000, Dropped: 10_000},
		},
		Exchanges: Exchanges{OK: 1000, P50: 150 * time.Microsecond, P99: 2 * time.Millisecond},
	}, Kernel{Passed: 68_803, Dropped: 1_144_201, Strangers: 489_200, Banned: 10_000, Segments: 1004}
}

const flawlessSummary = "In 10.0 s, in which 1000/s and a burst of 1,000 grant a source 11,000 packets, weir let through 11,000 of the IPv4 flooder's " +
	"250,000, 10,999 of the IPv6 flooder's 250,000, 33,000 of the 200-host botnet's 200,000, 10,800 of the spoofed flood's 500,000 and " +
	"none of the banned host's 10,000, while the good client lost none of its 2,000 datagrams and 1,000 TCP exchanges."

// What a reader is told, to the letter.
func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name      string
		change    func(*Measurement, *Kernel)
		want      string
		disturbed bool
	}{
		{"flawless", func(*Measurement, *Kernel) {}, flawlessSummary, false},
		{"some of a flood lost on the cable", func(_ *Measurement, k *Kernel) { k.Dropped -= 1000 }, flawlessSummary, false},
		{"flooder over its limit", func(m *Measurement, k *Kernel) {
			m.Clients[1] = flooder(250_000, 21_000)
			k.Passed, k.Dropped = k.Passed+10_000, k.Dropped-10_000
		}, "Not proved: the IPv4 flooder was over its limit: 21,000 of 250,000 packets got through, and 1000/s and a burst of 1,000 in " +
			"10.0 s grant 11,000.", false},
		{"good client dropped by weir", func(m *Measurement, k *Kernel) {
			m.Clients[0].Passed, m.Clients[0].Dropped = 1990, 10
			k.Passed, k.Dropped = k.Passed-10, k.Dropped+10
		}, "Not proved: the good client lost 10 of 2,000 datagrams.", false},
		{"good client's packet lost elsewhere", func(m *Measurement, k *Kernel) {
			m.Clients[0].Passed, m.Clients[0].Dropped = 1999, 1
			k.Passed--
		}, "Not proved: the good client lost 1 of 2,000 datagrams; 1 packet got lost outside weir (is this machine very busy?).", true},
		{"strangers at will", func(m *Measurement, k *Kernel) {
			m.Clients[4].Passed, m.Clients[4].Dropped = 500_000, 0
			k.Passed, k.Dropped = k.Passed+489_200, k.Dropped-489_200
		}, "Not proved: the spoofed flood was over its limit: 500,000 of 500,000 packets got through, and 1000/s and a burst of 1,000 in " +
			"10.0 s grant 11,000.", false},
		{"a ban that does not hold", func(m *Measurement, k *Kernel) {
			m.Clients[5].Passed, m.Clients[5].Dropped = 100, 9900
			k.Passed, k.Dropped = k.Passed+100, k.Dropped-100
		}, "Not proved: 100 packets of the banned host's 10,000 got through.", false},
		{"lost before weir", func(_ *Measurement, k *Kernel) { k.Dropped -= 100_000 },
			"Not proved: 100,000 packets got lost outside weir (is this machine very busy?).", true},
		{"lost behind weir", func(_ *Measurement, k *Kernel) { k.Passed += 4 },
			"Not proved: 4 packets got lost outside weir (is this machine very busy?).", true},
		{"the machine stood still", func(m *Measurement, k *Kernel) {
			m.Stalled = 700 * time.Millisecond
			m.Clients[1] = flooder(250_000, 10_000)
			k.Passed, k.Dropped = k.Passed-1000, k.Dropped+1000
		}, "Not proved: the IPv4 flooder was held below its limit: 10,000 of 250,000 packets got through, and 1000/s and a burst of 1,000 in " +
			"10.0 s grant 11,000; this machine stood still for 0.7 s.", true},
		{"the machine had no time to send", func(m *Measurement, k *Kernel) {
			m.Clients[1] = flooder(200_000, 10_000)
			m.Clients[1].Offered = 25_000
			k.Passed, k.Dropped = k.Passed-1000, k.Dropped-49_000
		}, "Not proved: the IPv4 flooder was held below its limit: 10,000 of 200,000 packets got through, and 1000/s and a burst of 1,000 in " +
			"10.0 s grant 11,000; this machine let the IPv4 flooder send only 200,000 of 250,000 packets.", true},
		{"the machine stood still, and nothing came of it", func(m *Measurement, _ *Kernel) { m.Stalled = 700 * time.Millisecond }, flawlessSummary, false},
		{"arrivals that did not pass", func(_ *Measurement, k *Kernel) { k.Passed -= 4 },
			"Not proved: weir counted 68,799 packets as passed, and the application received 68,803.", false},
		{"drops that arrived", func(_ *Measurement, k *Kernel) { k.Dropped += 4 },
			"Not proved: weir counted 1,144,205 drops, and the application missed 1,144,201.", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, k := flawless()
			c.change(&m, &k)
			r := judge(ten, m, k)
			if r.Summary != c.want {
				t.Errorf("got  %s\nwant %s", r.Summary, c.want)
			}
			if r.Proved == strings.HasPrefix(c.want, "Not proved") || r.disturbed != c.disturbed {
				t.Errorf("proved %v, disturbed %v", r.Proved, r.disturbed)
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

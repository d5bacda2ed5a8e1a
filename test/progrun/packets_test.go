package progrun

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	xdpDrop = 1
	xdpPass = 2
)

// slow lets burst packets pass and then, for as long as a test takes, none.
func slow(name string, burst uint64) policy.Policy {
	return policy.Policy{
		Name: name, Scope: policy.ScopePerIP, Limit: burst, Window: 24 * time.Hour, Burst: burst,
	}.WithDefaults()
}

func loadProgram(t *testing.T, entries int, policies ...policy.Policy) *loader.Standalone {
	t.Helper()
	testutil.RequireRoot(t)
	s, err := loader.LoadStandalone(loader.StandaloneOptions{Policies: policies, TableEntries: entries})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func send(t *testing.T, s *loader.Standalone, frame []byte) (action uint32) {
	t.Helper()
	action, err := s.Program().Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatal(err)
	}
	return action
}

// passed sends a frame n times and tells how many of them passed.
func passed(t *testing.T, s *loader.Standalone, n int, frame []byte) (count int) {
	t.Helper()
	newAffinity(t) // what another CPU had leased of a large burst would be missed
	for range n {
		if send(t, s, frame) == xdpPass {
			count++
		}
	}
	return count
}

func udp(source string, tags ...lab.VLAN) lab.Frame {
	src := netip.MustParseAddr(source)
	dst := netip.MustParseAddr("203.0.113.1")
	if src.Is6() {
		dst = netip.MustParseAddr("2001:db8:ffff::1")
	}
	return lab.Frame{Src: src, Dst: dst, SrcPort: 1, DstPort: 2, VLANs: tags, Payload: make([]byte, 18)}
}

func bytesOf(t *testing.T, f lab.Frame) []byte {
	t.Helper()
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bucketOf(t *testing.T, s *loader.Standalone, source netip.Addr) loader.BucketState {
	t.Helper()
	return s.Table().Bucket(&s.Policies()[0], loader.Key{Source: source}, loader.Now())
}

func counters(t *testing.T, s *loader.Standalone) loader.Counters {
	t.Helper()
	c, err := s.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Which sources share a bucket: b finds what a left of a burst of 3.
func TestSourcesThatShareABucket(t *testing.T) {
	one, two := lab.VLAN{ID: 7}, lab.VLAN{TPID: lab.TPIDService, ID: 8}
	for _, tt := range []struct {
		name   string
		a, b   lab.Frame
		v4, v6 uint8
		shared bool
	}{
		{"the same IPv4 address", udp("192.0.2.1"), udp("192.0.2.1"), 32, 64, true},
		{"another IPv4 address", udp("192.0.2.1"), udp("192.0.2.2"), 32, 64, false},
		{"the same IPv4 /24", udp("192.0.2.1"), udp("192.0.2.254"), 24, 64, true},
		{"another IPv4 /24", udp("192.0.2.1"), udp("192.0.3.1"), 24, 64, false},
		{"the same IPv6 /64", udp("2001:db8::1"), udp("2001:db8::ffff:1"), 32, 64, true},
		{"another IPv6 /64", udp("2001:db8::1"), udp("2001:db8:0:1::1"), 32, 64, false},
		{"another IPv6 address under /128", udp("2001:db8::1"), udp("2001:db8::2"), 32, 128, false},
		{"the same IPv6 /48", udp("2001:db8:1::1"), udp("2001:db8:1:ff::1"), 32, 48, true},
		{"IPv4 in a VLAN and without", udp("192.0.2.1"), udp("192.0.2.1", one), 32, 64, true},
		{"IPv4 in two VLANs and one", udp("192.0.2.1", two, one), udp("192.0.2.1", one), 32, 64, true},
		{"IPv6 in two VLANs and none", udp("2001:db8::1", two, one), udp("2001:db8::1"), 32, 64, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := slow("p", 3)
			p.IPv4Prefix, p.IPv6Prefix = tt.v4, tt.v6
			s := loadProgram(t, 1024, p)
			if got := passed(t, s, 2, bytesOf(t, tt.a)); got != 2 {
				t.Fatalf("%d of the first 2 packets passed", got)
			}
			want := 3
			if tt.shared {
				want = 1
			}
			if got := passed(t, s, 5, bytesOf(t, tt.b)); got != want {
				t.Errorf("%d of 5 packets passed, want %d", got, want)
			}
		})
	}
}

// What can't be charged passes, and is counted by its reason.
func TestUnparsed(t *testing.T) {
	frame := bytesOf(t, udp("192.0.2.1"))
	v6 := bytesOf(t, udp("2001:db8::1"))
	edit := func(frame []byte, change func([]byte)) []byte {
		b := append([]byte(nil), frame...)
		change(b)
		return b
	}
	tag := lab.VLAN{ID: 1}
	twice := bytesOf(t, udp("192.0.2.1", tag, tag))
	for _, tt := range []struct {
		reason string
		frame  []byte
	}{
		{"truncated", frame[:33]},
		{"truncated", v6[:53]},
		{"truncated", twice[:21]},
		{"not_ip", edit(frame, func(b []byte) { b[13] = 6 })},
		{"vlan_depth", edit(twice, func(b []byte) { b[20], b[21] = 0x81, 0 })},
		{"bad_header", edit(frame, func(b []byte) { b[14] = 0x65 })},
		{"bad_header", edit(v6, func(b []byte) { b[14] = 0x45 })},
		{"neighbor_discovery", edit(v6, func(b []byte) { b[20], b[21], b[54] = 58, 255, 135 })},
	} {
		s := loadProgram(t, 1024, slow("p", 1))
		if got := passed(t, s, 5, tt.frame); got != 5 {
			t.Errorf("%s: %d of 5 packets passed", tt.reason, got)
		}
		c := counters(t, s)
		if c.Unparsed[tt.reason] != 5 {
			t.Errorf("%s: counted %v", tt.reason, c.Unparsed)
		}
		if n := c.Policies["p"][policy.VerdictPass].Packets; n != 0 {
			t.Errorf("%s: %d packets were charged", tt.reason, n)
		}
	}
}

func TestCounters(t *testing.T) {
	s := loadProgram(t, 1024, slow("p", 3))
	frame := bytesOf(t, udp("192.0.2.1"))
	passed(t, s, 5, frame)
	got := counters(t, s).Policies["p"]
	size := uint64(len(frame))
	want := map[policy.Verdict]loader.Count{
		policy.VerdictPass:       {Packets: 3, Bytes: 3 * size},
		policy.VerdictDrop:       {Packets: 2, Bytes: 2 * size},
		policy.VerdictShadowDrop: {},
	}
	for verdict, n := range want {
		if got[verdict] != n {
			t.Errorf("%s: %+v, want %+v", verdict, got[verdict], n)
		}
	}
}

func TestBytes(t *testing.T) {
	p := slow("p", 4000) // a byte in 22 s
	p.Unit = policy.UnitBytes
	s := loadProgram(t, 1024, p)
	large, small := udp("192.0.2.1"), udp("192.0.2.1")
	large.Payload = make([]byte, 1500-42) // a frame of 1500 bytes
	small.Payload = make([]byte, 100-42)
	if got := passed(t, s, 5, bytesOf(t, large)); got != 2 {
		t.Errorf("%d frames of 1500 bytes passed, want 2 of 4000 bytes", got)
	}
	if got := passed(t, s, 20, bytesOf(t, small)); got != 10 {
		t.Errorf("%d frames of 100 bytes passed, want the 1000 bytes that were left", got)
	}
}

// A frame in several buffers costs its whole length, and a header that lies costs nothing more.
func TestBytesOfFramesInSeveralBuffers(t *testing.T) {
	testutil.SkipIfKernelBelow(t, 5, 18, "XDP has no frames in several buffers")
	p := slow("p", 100_000) // a byte a second: not one frame more
	p.Unit = policy.UnitBytes
	s := loadProgram(t, 1024, p)
	jumbo := udp("192.0.2.1")
	jumbo.Payload = make([]byte, 9000-42)
	if got := passed(t, s, 20, bytesOf(t, jumbo)); got != 11 {
		t.Errorf("%d frames of 9000 bytes passed, want 11 of 100 000 bytes", got)
	}
	liar := bytesOf(t, udp("192.0.2.2"))
	liar[16], liar[17] = 0xff, 0xff
	if got, want := passed(t, s, 2000, liar), 100_000/len(liar); got != want {
		t.Errorf("%d frames of %d bytes that claim 65535 passed, want %d", got, len(liar), want)
	}
}

func TestShadowCountsAndPasses(t *testing.T) {
	p := slow("p", 3)
	p.Mode = policy.ModeShadow
	s := loadProgram(t, 1024, p)
	if got := passed(t, s, 10, bytesOf(t, udp("192.0.2.1"))); got != 10 {
		t.Errorf("%d of 10 packets passed in shadow", got)
	}
	got := counters(t, s).Policies["p"]
	if got[policy.VerdictPass].Packets != 3 || got[policy.VerdictShadowDrop].Packets != 7 || got[policy.VerdictDrop].Packets != 0 {
		t.Errorf("counted %+v, want 3 passed and 7 in shadow", got)
	}
}

// The strictest decides, and what it denies is charged to nobody else.
func TestSeveralPolicies(t *testing.T) {
	wide, narrow, watcher := slow("wide", 8), slow("narrow", 3), slow("watcher", 2)
	wide.IPv4Prefix = 24
	watcher.Mode = policy.ModeShadow
	for name, order := range map[string][]policy.Policy{
		"the wide one first":   {wide, narrow, watcher},
		"the narrow one first": {narrow, wide, watcher},
	} {
		t.Run(name, func(t *testing.T) {
			s := loadProgram(t, 1024, order...)
			if got := passed(t, s, 10, bytesOf(t, udp("192.0.2.1"))); got != 3 {
				t.Errorf("%d packets of the first source passed, want narrow's 3", got)
			}
			if got := passed(t, s, 10, bytesOf(t, udp("192.0.2.2"))); got != 3 {
				t.Errorf("%d packets of the second source passed, want narrow's 3", got)
			}
			if got := passed(t, s, 10, bytesOf(t, udp("192.0.2.3"))); got != 2 {
				t.Errorf("%d packets of the third source passed, want the 2 that wide has left", got)
			}
			c := counters(t, s)
			if n, w := c.Policies["narrow"], c.Policies["wide"]; n[policy.VerdictPass] != w[policy.VerdictPass] ||
				n[policy.VerdictPass].Packets != 8 || n[policy.VerdictDrop].Packets+w[policy.VerdictDrop].Packets != 22 {
				t.Errorf("narrow counted %+v, wide %+v: want 8 passed by both and 22 dropped between them", n, w)
			}
			if n := c.Policies["watcher"]; n[policy.VerdictPass].Packets != 6 || n[policy.VerdictShadowDrop].Packets != 2 {
				t.Errorf("watcher counted %+v, want 6 passed and 2 in shadow of the 8 that it saw", n)
			}
		})
	}
}

func TestNoPolicies(t *testing.T) {
	s := loadProgram(t, 1024)
	if got := passed(t, s, 5, bytesOf(t, udp("192.0.2.1"))); got != 5 {
		t.Errorf("%d of 5 packets passed without a policy", got)
	}
}

// A table of one set: the fifth source finds four debts.
func TestPressure(t *testing.T) {
	for _, tt := range []struct {
		choice policy.Pressure
		action uint32
	}{{policy.PressurePass, xdpPass}, {policy.PressureDrop, xdpDrop}} {
		p := slow("p", 3)
		p.OnPressure = tt.choice
		s := loadProgram(t, 4, p)
		for i := range 4 {
			passed(t, s, 3, bytesOf(t, udp(fmt.Sprintf("192.0.2.%d", i+1))))
		}
		if got := send(t, s, bytesOf(t, udp("192.0.2.9"))); got != tt.action {
			t.Errorf("on_pressure %s: action %d, want %d", tt.choice, got, tt.action)
		}
		if n := counters(t, s).Pressure; n != 1 {
			t.Errorf("on_pressure %s: pressure counted %d times, want once", tt.choice, n)
		}
	}
}

// The bucket that user space sees through the mapping is the one that the kernel charges.
func TestMappedBucket(t *testing.T) {
	s := loadProgram(t, 1024, slow("p", 5))
	frame := bytesOf(t, udp("2001:db8::1"))
	source := netip.MustParseAddr("2001:db8::1")

	if got := bucketOf(t, s, source); got.Found || got.Tokens != 5 {
		t.Errorf("before any packet: %+v, want no entry and 5 tokens", got)
	}
	passed(t, s, 3, frame)
	if got := bucketOf(t, s, source); !got.Found || got.Tokens != 2 || got.Used != 3 || got.Next != 0 {
		t.Errorf("after 3 packets: %+v, want 2 tokens and 3 used", got)
	}
	passed(t, s, 3, frame)
	if got := bucketOf(t, s, source); got.Tokens != 0 || got.Next <= 0 || got.Next > 24*time.Hour {
		t.Errorf("empty: %+v, want a wait of a day at most", got)
	}
	if !s.Table().ResetBucket(&s.Policies()[0], loader.Key{Source: source}, loader.Now()) {
		t.Error("reset found no entry")
	}
	if got := passed(t, s, 10, frame); got != 5 {
		t.Errorf("%d packets passed after the reset, want the burst of 5", got)
	}
}

package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// onEgress is what a policy that paces has to say beside its limit.
const onEgress = "action: pace, match: {direction: egress}, "

// attachPaced attaches to host B's egress as well as the kernel can.
func (r *rig) attachPaced(policies ...string) result {
	r.Helper()
	return r.mustWeir("attach", r.B.Interface, "-c", r.config(policies...), "--hook", "tc-egress")
}

// recorded is how many packets a departures program takes down.
const recorded = 4096

// departures is a program behind weir's on its hook, that takes down when each packet is to depart.
type departures struct{ records *ebpf.Map }

// recordDepartures attaches it to host B's egress, behind what is there.
func (r *rig) recordDepartures() *departures {
	r.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "departures", Type: ebpf.Array, KeySize: 4, ValueSize: 8 * (1 + recorded), MaxEntries: 1})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { m.Close() })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "departures", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		// n := records[0]; if n < recorded { records[1+n] = skb->tstamp; records[0]++ }; return TCX_NEXT
		asm.LoadMapValue(asm.R7, m.FD(), 0),
		asm.LoadMem(asm.R8, asm.R7, 0, asm.DWord),
		asm.JGE.Imm(asm.R8, recorded, "out"),
		asm.LoadMem(asm.R2, asm.R1, 152, asm.DWord), // tstamp of struct __sk_buff
		asm.Mov.Reg(asm.R3, asm.R8),
		asm.LSh.Imm(asm.R3, 3),
		asm.Add.Reg(asm.R3, asm.R7),
		asm.StoreMem(asm.R3, 8, asm.R2, asm.DWord),
		asm.Add.Imm(asm.R8, 1),
		asm.StoreMem(asm.R7, 0, asm.R8, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"),
		asm.Return(),
	}})
	if err != nil {
		r.Fatalf("%+v", err)
	}
	defer p.Close()
	index, err := r.B.Index()
	if err != nil {
		r.Fatal(err)
	}
	err = r.B.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Program: p, Interface: index, Attach: ebpf.AttachTCXEgress, Anchor: link.Tail()})
		if err == nil {
			r.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	return &departures{m}
}

// all are the instants at which the packets so far may depart, in ns of the monotonic clock; 0: at once.
func (d *departures) all(t *testing.T) []uint64 {
	t.Helper()
	value := make([]uint64, 1+recorded)
	if err := d.records.Lookup(uint32(0), value); err != nil {
		t.Fatal(err)
	}
	return value[1 : 1+value[0]]
}

// Packets of the stack's own are given departures a token time apart, behind the burst, and none is dropped that may depart
// within 2 s. Whether the queueing discipline keeps them is TestPaceWithFQ's.
func TestPaceGivesDepartures(t *testing.T) {
	testutil.SkipIfKernelBelow(t, 6, 6, "only by tcx can a second program see what weir's has done to a packet")
	const (
		burst, more = uint64(5), 50
		token       = 10 * time.Millisecond
		held        = uint64(2 * time.Second / token)
		count       = burst + held + more
	)
	r := newRig(t, lab.PairSpec{})
	r.attachPaced(onEgress + "limit: 100, window: 1s, burst: 5")
	d := r.recordDepartures()
	begun := time.Now()
	r.sendUDP(netip.AddrPortFrom(r.A.IPv4, 7), count)
	r.awaitSeen(count)
	refilled := uint64(time.Since(begun)/token) + 1
	c := r.counters()
	passed, dropped := c.Policies["p0"][policy.VerdictPass].Packets, c.Policies["p0"][policy.VerdictDrop].Packets
	if passed < burst+held || passed > burst+held+refilled || passed+dropped != count {
		t.Errorf("%d passed and %d were dropped, want %d to pass, or up to %d more by now", passed, dropped, burst+held, refilled)
	}
	all := d.all(t)
	if uint64(len(all)) != passed {
		t.Fatalf("%d packets came behind weir's program, %d passed it", len(all), passed)
	}
	atOnce := uint64(0)
	for atOnce < passed && all[atOnce] == 0 {
		atOnce++
	}
	if atOnce < burst || atOnce > burst+refilled {
		t.Errorf("%d packets depart at once, want the burst of %d, or up to %d more", atOnce, burst, refilled)
	}
	if paced := c.Paced["p0"]; paced != passed-atOnce {
		t.Errorf("%d are counted as paced, %d were given a departure", paced, passed-atOnce)
	}
	for i := atOnce + 1; i < passed; i++ {
		// Rounded up to whole ns each.
		if gap := int64(all[i] - all[i-1]); gap < int64(token)-1 || gap > int64(token)+1 {
			t.Errorf("packet %d departs %d ns after the one before, want %d", i, gap, token)
		}
	}
}

// sendUDP sends small datagrams from host B as fast as it goes.
func (r *rig) sendUDP(to netip.AddrPort, count uint64) {
	r.Helper()
	client := &lab.UDPClient{Host: r.B, Target: to, Payload: 18, Load: lab.Load{Count: count}}
	if err := client.Run(r.within(limit)); err != nil {
		r.Fatal(err)
	}
	if client.Sent() != count {
		r.Fatalf("%d of %d datagrams were sent, %d refused", client.Sent(), count, client.Failed())
	}
}

// useFQ makes fq host B's queueing discipline, with room for so many packets of a flow; 0: for the 100 that it has by itself.
func (r *rig) useFQ(flowLimit uint32) {
	r.Helper()
	err := r.B.Do(func() error {
		l, err := netlink.LinkByName(r.B.Interface)
		if err != nil {
			return err
		}
		fq := netlink.NewFq(netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT})
		fq.FlowPacketLimit = flowLimit
		return netlink.QdiscReplace(fq)
	})
	if errors.Is(err, unix.ENOENT) {
		r.Skip("this kernel has no fq queueing discipline (CONFIG_NET_SCH_FQ)")
	}
	if err != nil {
		r.Fatal(err)
	}
}

// timed is a socket that knows when each datagram came: by the kernel's own stamp, so that nobody has to read in time.
type timed struct{ *net.UDPConn }

func (r *rig) listenTimed(h *lab.Host, at netip.AddrPort) timed {
	r.Helper()
	var conn *net.UDPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	if err != nil {
		r.Fatal(err)
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	})
	if err := errors.Join(err, controlErr); err != nil {
		r.Fatal(err)
	}
	return timed{conn}
}

// arrivals are the instants at which n datagrams came. Fewer are a failure.
func (c timed) arrivals(t *testing.T, n int) (all []time.Time) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	payload, control := make([]byte, 64), make([]byte, 64)
	for len(all) < n {
		_, length, _, _, err := c.ReadMsgUDPAddrPort(payload, control)
		if err != nil {
			t.Fatalf("%d of %d datagrams came: %v", len(all), n, err)
		}
		messages, err := unix.ParseSocketControlMessage(control[:length])
		if err != nil || len(messages) != 1 || messages[0].Header.Type != unix.SO_TIMESTAMPNS {
			t.Fatalf("control messages %v, %v", messages, err)
		}
		all = append(all, time.Unix((*unix.Timespec)(unsafe.Pointer(&messages[0].Data[0])).Unix()))
	}
	return all
}

// expectSpaced holds that what came is burst packets and then one each token time, after begun: none before its time,
// and the last one when its token is there, or the sender has done.
func expectSpaced(t *testing.T, all []time.Time, begun, sent time.Time, burst int, token time.Duration) {
	t.Helper()
	// The two clocks, of the departure and of the stamps, may run apart a little.
	const skew = time.Millisecond
	late := time.Duration(0)
	for i, at := range all {
		due := begun
		if i >= burst {
			due = begun.Add(time.Duration(i-burst+1) * token)
		}
		if at.Before(due.Add(-skew)) {
			t.Errorf("packet %d came %v before its token", i, due.Sub(at))
		}
		late = max(late, at.Sub(due))
	}
	paced := all[burst:]
	last := paced[len(paced)-1]
	rate := float64(len(paced)-1) / last.Sub(paced[0]).Seconds()
	t.Logf("%d packets in %v: %.1f a second behind the burst, the limit is %.0f; the latest was %v late", len(all), last.Sub(begun), rate, 1/token.Seconds(), late)
	due := begun.Add(time.Duration(len(paced)) * token)
	if due.Before(sent) {
		due = sent
	}
	if late := last.Sub(due); late > patience {
		t.Errorf("the last packet came %v after it was due", late)
	}
}

// patience is for a busy machine, in software emulation.
const patience = 500 * time.Millisecond

// A sender that is faster than its limit is received at the limit, spaced, and nothing is lost.
func TestPaceWithFQ(t *testing.T) {
	const burst, count = 10, 210
	r := newRig(t, lab.PairSpec{})
	r.useFQ(2 * count)
	if res := r.attachPaced(onEgress + "limit: 250, window: 1s, burst: 10"); strings.Contains(res.stderr, "fq") && !strings.Contains(res.stderr, "flow_limit") {
		t.Errorf("attach complains with fq: %v", res)
	}
	sink := r.listenTimed(r.A, netip.AddrPortFrom(r.A.IPv4, 7))
	begun := time.Now()
	r.sendUDP(netip.AddrPortFrom(r.A.IPv4, 7), count)
	sent := time.Now()
	expectSpaced(t, sink.arrivals(t, count), begun, sent, burst, 4*time.Millisecond)
	r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: count})
	if res := r.mustWeir("status", "-o", "json"); !strings.Contains(res.stdout, `"paced": `) {
		t.Errorf("status shows nothing as paced: %v", res)
	}
	if paced := r.counters().Paced["p0"]; paced > count-burst || paced < (count-burst)*9/10 {
		t.Errorf("%d packets are counted as paced, want %d", paced, count-burst)
	}
}

// What host B forwards is paced as what it sends. The receiver's wish for time stamps has the kernel stamp every packet that
// comes in with the time of day, which must not be taken for a departure.
func TestPaceOfForwardedPacketsWithFQ(t *testing.T) {
	const burst, count = 10, 110
	r := newRig(t, lab.PairSpec{})
	r.useFQ(2 * count)
	behind := netip.MustParseAddr("203.0.113.9")
	r.routeByB(behind)
	r.attachPaced(onEgress + "limit: 250, window: 1s, burst: 10")
	sink := r.listenTimed(r.A, netip.AddrPortFrom(behind, 7))
	frame := r.A.Frame(netip.AddrPortFrom(behind, 7))
	frame.Src, frame.DstMAC = netip.MustParseAddr("198.51.100.7"), r.B.MAC
	b, err := frame.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := lab.Inject(r.within(limit), r.A, 0, slices.Repeat([][]byte{b}, count)...); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	expectSpaced(t, sink.arrivals(t, count), begun, sent, burst, 4*time.Millisecond)
	r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: count})
}

// routeByB gives host A a further address, and makes host B a router to it.
func (r *rig) routeByB(address netip.Addr) {
	r.Helper()
	single := &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(32, 32)}
	err := r.A.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: single})
	})
	if err != nil {
		r.Fatal(err)
	}
	err = r.B.Do(func() error {
		l, err := netlink.LinkByName(r.B.Interface)
		if err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: single, Gw: r.A.IPv4.AsSlice()})
	})
	if err != nil {
		r.Fatal(err)
	}
}

// A stream is held to its limit in bytes without a single packet dropped: TCP sees a slower path, and next to nothing is sent again.
func TestPaceOfAStreamWithFQ(t *testing.T) {
	const (
		payload, burst = 768 << 10, 128 << 10
		rate           = 1_000_000
	)
	r := newRig(t, lab.PairSpec{Offloads: true})
	r.useFQ(0)
	r.attachPaced(onEgress + "unit: bytes, limit: 1000000, window: 1s, burst: 131072")
	server, err := lab.NewEchoServer(r.A, 7)
	if err != nil {
		t.Fatal(err)
	}
	r.background(server.Run)
	client := &lab.TCPClient{
		Host: r.B, Target: netip.AddrPortFrom(r.A.IPv4, 7), Payload: payload, Timeout: limit, Load: lab.Load{Rate: 1, Count: 1},
	}
	begun := time.Now()
	if err := client.Run(r.within(limit)); err != nil || client.Sent() != 1 {
		t.Fatalf("%d exchanges, %v", client.Sent(), err)
	}
	took := time.Since(begun)
	c := r.counters()
	n, dropped, paced := c.Policies["p0"][policy.VerdictPass], c.Policies["p0"][policy.VerdictDrop].Packets, c.Paced["p0"]
	t.Logf("%d bytes in %d packets, %d of them paced, in %v", n.Bytes, n.Packets, paced, took)
	if least := time.Duration(float64(payload-burst) / rate * float64(time.Second)); took < least {
		t.Errorf("it took %v, want %v at least", took, least)
	}
	if dropped != 0 || paced == 0 {
		t.Errorf("%d packets were dropped and %d paced, want none dropped and some paced", dropped, paced)
	}
	if again := r.sentAgain(r.B); again > n.Packets/20 {
		t.Errorf("%d of %d packets were sent again", again, n.Packets)
	}
}

// Who paces without fq is told, and how to mend it.
func TestPaceWithoutFQIsTold(t *testing.T) {
	const mend = "tc qdisc replace dev eth0 root fq"
	r := newRig(t, lab.PairSpec{})
	if res := r.attachPaced(onEgress + "limit: 10, window: 1s"); !strings.Contains(res.stderr, mend) {
		t.Errorf("attach says nothing of %q: %v", mend, res)
	}
	if res := r.mustWeir("doctor", "--interface", "eth0"); !strings.Contains(res.stdout, mend) {
		t.Errorf("doctor says nothing of %q: %v", mend, res)
	}
	if res := r.mustWeir("attach", "eth0", "-c", r.config("limit: 10, window: 1s"), "--hook", "tc-egress"); strings.Contains(res.stderr, "fq") {
		t.Errorf("attach speaks of fq, and nobody paces: %v", res)
	}
}

// The mend mends: with it neither attach nor doctor has anything to say; with too little room in it both say how much it takes.
func TestPaceWithFQIsNotTold(t *testing.T) {
	for _, tt := range []struct {
		flowLimit uint32
		words     string
	}{{2000, ""}, {0, "flow_limit 2000"}} {
		r := newRig(t, lab.PairSpec{})
		r.useFQ(tt.flowLimit)
		attach := r.attachPaced(onEgress + "limit: 1000, window: 1s")
		doctor := r.mustWeir("doctor", "--interface", "eth0")
		for _, text := range []string{attach.stderr, doctor.stdout} {
			if told := strings.Contains(text, "tc qdisc replace"); told != (tt.words != "") || !strings.Contains(text, tt.words) {
				t.Errorf("flow_limit %d: want %q in %q", tt.flowLimit, tt.words, text)
			}
		}
	}
}

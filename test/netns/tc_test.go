package netns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// bestTC is the best way to be at a TC hook that this kernel has: tcx came with 6.6.
var bestTC = func() string {
	if loader.ProbeTCX() != nil {
		return "clsact"
	}
	return "tcx"
}()

// tcModes are those that this kernel has.
var tcModes = slices.Compact([]string{bestTC, "clsact"})

// attachTC attaches to a TC hook of host B's interface, with the command.
func (r *rig) attachTC(hook, mode string, policies ...string) {
	r.Helper()
	r.mustWeir("attach", r.B.Interface, "-c", r.config(policies...), "--hook", hook, "--mode", mode)
	if a := r.attached(); a.Hook != hook || a.Mode != mode || a.State != "attached" {
		r.Errorf("status shows hook %s, mode %s, %s; want %s by %s, attached", a.Hook, a.Mode, a.State, hook, mode)
	}
}

// expectNoQdisc holds that no queueing discipline for filters is left on host B.
func (r *rig) expectNoQdisc() {
	r.Helper()
	err := r.B.Do(func() error {
		all, err := netlink.QdiscList(nil)
		for _, q := range all {
			if q.Attrs().Parent == netlink.HANDLE_CLSACT {
				r.Errorf("a queueing discipline of type %s is left", q.Type())
			}
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
}

// What comes in is limited before a socket sees it, each source by its own bucket.
func TestTCIngressLimitsWhatComesIn(t *testing.T) {
	const burst, each = 10, 100
	for _, mode := range tcModes {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attachTC("tc-ingress", mode, "limit: 1, window: 1h, burst: 10")
			sink, err := lab.NewUDPSink(r.B, 7, r.A.IPv4, r.A.IPv6)
			if err != nil {
				t.Fatal(err)
			}
			r.background(sink.Run)
			var frames [][]byte
			for _, source := range []netip.Addr{r.A.IPv4, r.A.IPv6} {
				frames = append(frames, r.frame(source, func(f *lab.Frame) { f.DstMAC, f.DstPort = r.B.MAC, 7 }))
			}
			r.flood(lab.Load{Rate: 10_000, Count: 2 * each}, frames...)
			if err := sink.Await(r.within(limit), 2*burst); err != nil {
				t.Error(err)
			}
			if a, b := sink.From(r.A.IPv4).Packets, sink.From(r.A.IPv6).Packets; a != burst || b != burst {
				t.Errorf("%d and %d packets arrived, want %d of each", a, b, burst)
			}
			r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: 2 * burst, policy.VerdictDrop: 2 * (each - burst)})
			r.mustWeir("detach", "eth0", "--hook", "tc-ingress")
			r.expectNothingPinned()
			r.expectNoQdisc()
		})
	}
}

// What goes out is limited before it reaches the cable.
func TestTCEgressLimitsWhatGoesOut(t *testing.T) {
	const burst, each = 10, 100
	for _, mode := range tcModes {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attachTC("tc-egress", mode, "limit: 1, window: 1h, burst: 10")
			sink, err := lab.NewUDPSink(r.A, 7, r.B.IPv4)
			if err != nil {
				t.Fatal(err)
			}
			r.background(sink.Run)
			client := &lab.UDPClient{
				Host: r.B, Target: netip.AddrPortFrom(r.A.IPv4, 7), Payload: 18, Load: lab.Load{Rate: 10_000, Count: each},
			}
			if err := client.Run(r.within(limit)); err != nil {
				t.Fatal(err)
			}
			r.awaitSeen(each)
			if err := sink.Await(r.within(limit), burst); err != nil {
				t.Error(err)
			}
			if n := sink.Total(); n != burst {
				t.Errorf("%d packets arrived, want %d", n, burst)
			}
			r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: burst, policy.VerdictDrop: each - burst})
		})
	}
}

// Bytes are those of the frame on the cable, with the VLAN tag that the stack takes off before TC sees it.
func TestTCCountsFramesWhole(t *testing.T) {
	const count = 100
	for tags := range 3 {
		r := newRig(t, lab.PairSpec{})
		r.attachTC("tc-ingress", bestTC, "limit: 1000000, window: 1s")
		frame := r.frame(r.A.IPv4, func(f *lab.Frame) { f.VLANs = tagged[tags] })
		r.flood(lab.Load{Rate: 10_000, Count: count}, frame)
		n := r.counters().Policies["p0"][policy.VerdictPass]
		if n.Packets != count || n.Bytes != count*uint64(len(frame)) {
			t.Errorf("%d tags: counted %+v, want %d packets of %d bytes each", tags, n, count, len(frame))
		}
	}
}

// A stream that the stack moves in joined packets is counted as the segments that a cable would carry.
func TestTCCountsSegmentsOfAStream(t *testing.T) {
	const payload, segment = 1 << 20, 1448 // with timestamps, at an MTU of 1500
	for _, hook := range []string{"tc-ingress", "tc-egress"} {
		t.Run(hook, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{Offloads: true})
			r.attachTC(hook, bestTC, "limit: 100000000, window: 1s")
			server, err := lab.NewEchoServer(r.B, 7)
			if err != nil {
				t.Fatal(err)
			}
			r.background(server.Run)
			client := &lab.TCPClient{
				Host: r.A, Target: netip.AddrPortFrom(r.B.IPv4, 7), Payload: payload, Timeout: limit, Load: lab.Load{Rate: 1, Count: 1},
			}
			if err := client.Run(r.within(limit)); err != nil || client.Sent() != 1 {
				t.Fatalf("%d exchanges, %v", client.Sent(), err)
			}
			n := r.counters().Policies["p0"][policy.VerdictPass]
			t.Logf("%d packets, %d bytes", n.Packets, n.Bytes)
			if n.Packets < payload/segment {
				t.Errorf("%d packets are counted, want %d at least", n.Packets, payload/segment)
			}
			// Every packet has 54 bytes of headers at least, and 74 with all the options of a SYN. On a busy machine TCP takes
			// some for lost, and sends them again.
			again := segment * r.sentAgain(r.A)
			if headers := n.Bytes - payload; headers < 54*n.Packets || headers > 74*n.Packets+again {
				t.Errorf("%d bytes are counted for %d packets, and up to %d were sent again, which leaves %.1f for the headers of each",
					n.Bytes, n.Packets, again, float64(headers)/float64(n.Packets))
			}
		})
	}
}

// sentAgain is how many segments TCP has sent again on a host.
func (r *rig) sentAgain(h *lab.Host) (segments uint64) {
	r.Helper()
	err := h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "Tcp: "); ok {
				lines = append(lines, rest)
			}
		}
		if len(lines) != 2 {
			return fmt.Errorf("%d lines on TCP, want 2", len(lines))
		}
		at := slices.Index(strings.Fields(lines[0]), "RetransSegs")
		if at < 0 {
			return errors.New("the kernel does not count RetransSegs")
		}
		segments, err = strconv.ParseUint(strings.Fields(lines[1])[at], 10, 64)
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	return segments
}

// All hooks of an interface at once, by the command; each can be taken off alone, and --all leaves nothing.
func TestEveryHookOfAnInterface(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	config := r.config("limit: 1, window: 1h, burst: 10")
	for _, args := range [][]string{{"--hook", "xdp"}, {"--hook", "tc-ingress", "--mode", "clsact"}, {"--hook", "tc-egress"}} {
		r.mustWeir(append([]string{"attach", "eth0", "-c", config}, args...)...)
	}
	for _, a := range r.status().Attachments {
		r.programs[a.Program.ID] = true
	}
	if len(r.programs) != 3 {
		t.Errorf("programs %v, want 3", r.programs)
	}
	r.mustWeir("detach", "eth0", "--hook", "xdp")
	r.expectInterfaceFree()
	r.failWeir([]string{"nothing is attached"}, "detach", "eth0", "--hook", "xdp")
	if n := len(r.status().Attachments); n != 2 {
		t.Errorf("%d attachments are left, want 2", n)
	}
	r.mustWeir("detach", "--all")
	r.expectNothingPinned()
	r.expectNoQdisc()
	r.expectFreed()
}

// Whenever a change of policies is killed, the bucket of a flooding source gives burst + rate * t and no more, and status
// shows the program that packets meet.
func TestAChangeKilledAnywhereUnderAFlood(t *testing.T) {
	const (
		limited = "name: limited, limit: 1000, window: 1s, burst: 100"
		kills   = 40
	)
	r := newRig(t, lab.PairSpec{})
	r.attach("native", limited)
	begun := time.Now()
	r.attach("native", limited)
	whole := time.Since(begun) // what one takes here, so that they are killed anywhere on their way
	files := []string{r.config(limited, "name: extra, limit: 5, window: 1s, mode: shadow"), r.config(limited)}
	sniffer := r.sniff()
	random := rand.New(rand.NewPCG(1, 2))
	killed := 0
	f := r.during(r.frame(r.A.IPv4, nil), func() {
		for i := range kills {
			cmd := r.command("attach", "eth0", "-c", files[i%2])
			if err := r.B.Do(cmd.Start); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Duration(random.Int64N(int64(whole))), func() { _ = cmd.Process.Kill() })
			if cmd.Wait() != nil {
				killed++
			}
			timer.Stop()
			if a := r.attached(); a.Program.ID != r.xdp() {
				t.Errorf("status shows program %d, on the interface is %d", a.Program.ID, r.xdp())
			}
		}
	})
	t.Logf("%d of %d were killed", killed, kills)
	if killed == 0 {
		t.Error("none was killed")
	}
	r.mustWeir("attach", "eth0", "-c", files[1])
	r.expectOneSet()
	arrived := r.arrivals(sniffer, r.counters().Policies["limited"][policy.VerdictPass].Packets)
	r.expectRate(f, from(arrived, r.A.IPv4), 1000, 100, 1)
}

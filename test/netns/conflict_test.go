package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// foreignProgram is somebody else's XDP program, which passes everything.
func foreignProgram(t *testing.T) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebody_elses", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// placed are the ways in which a program gets on an interface: by a link, or by its number alone as ip(8) does it.
var placed = map[string]func(r *rig, p *ebpf.Program, index int) error{
	"by a link": func(r *rig, p *ebpf.Program, index int) error {
		l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: index})
		if err == nil {
			r.Cleanup(func() { l.Close() })
		}
		return err
	},
	"by netlink, native": func(_ *rig, p *ebpf.Program, index int) error {
		return netlink.LinkSetXdpFdWithFlags(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}, p.FD(), unix.XDP_FLAGS_DRV_MODE)
	},
	"by netlink, generic": func(_ *rig, p *ebpf.Program, index int) error {
		return netlink.LinkSetXdpFdWithFlags(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}, p.FD(), unix.XDP_FLAGS_SKB_MODE)
	},
}

func TestAnotherProgramIsNamedAndStays(t *testing.T) {
	for name, place := range placed {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			foreign := foreignProgram(t)
			index, err := r.B.Index()
			if err != nil {
				t.Fatal(err)
			}
			if err := r.B.Do(func() error { return place(r, foreign, index) }); err != nil {
				t.Fatal(err)
			}
			id := programID(t, foreign)
			config := r.config("limit: 1, window: 1h, burst: 1")
			for _, mode := range []string{"auto", "native", "generic"} {
				r.failWeir([]string{fmt.Sprintf("program %d", id), "somebody_elses", r.B.Interface},
					"attach", r.B.Interface, "-c", config, "--mode", mode)
				if now := r.xdp(); now != id {
					t.Errorf("mode %s: program %d is on the interface, want %d as before", mode, now, id)
				}
				r.expectNothingPinned()
			}
			sniffer := r.sniff()
			if err := lab.Inject(r.within(limit), r.A, 10_000, r.frame(r.A.IPv4, nil), r.frame(r.A.IPv4, nil)); err != nil {
				t.Fatal(err)
			}
			r.arrivals(sniffer, 2)
		})
	}
}

// While weir is on an interface, others are refused in their turn, and weir's own second attach is an update.
func TestNobodyReplacesWeirByMistake(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	r.attach("native", "limit: 1, window: 1h, burst: 1")
	index, err := r.B.Index()
	if err != nil {
		t.Fatal(err)
	}
	id := r.xdp()
	for name, place := range placed {
		if err := r.B.Do(func() error { return place(r, foreignProgram(t), index) }); err == nil || r.xdp() != id {
			t.Errorf("%s: another program got on the interface", name)
		}
	}
	r.failWeir([]string{fmt.Sprintf("program %d", id), "weir_xdp"},
		"attach", r.B.Interface, "-c", r.config("limit: 1, window: 1h, burst: 1"), "--bpffs", newStateDir(t))
	if r.xdp() != id {
		t.Error("another state directory's attach replaced the program")
	}
}

func programID(t *testing.T, p *ebpf.Program) uint32 {
	t.Helper()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return uint32(id)
}

// expectNothingPinned holds that there is no state directory, and that status says so.
func (r *rig) expectNothingPinned() {
	r.Helper()
	if left := list(r.state); left != nil {
		r.Errorf("pinned: %v", left)
	}
	if s := r.status(); len(s.Attachments) > 0 || s.Table != nil {
		r.Errorf("status shows %+v", s)
	}
}

// expectOneSet holds that one link and one program with its maps are pinned, and nothing that a change left behind.
func (r *rig) expectOneSet() {
	r.Helper()
	found := map[string]int{}
	for _, pin := range list(r.state) {
		for _, kind := range []string{"loading", "link-", "set-", "program"} {
			if strings.HasPrefix(filepath.Base(pin), kind) {
				found[kind]++
			}
		}
	}
	if len(found) != 3 || found["link-"] != 1 || found["set-"] != 1 || found["program"] != 1 {
		r.Errorf("pinned: %v, want one link, and one set with a program", list(r.state))
	}
}

// An attach that can't succeed says why, and what to do, and leaves nothing.
func TestAFailedAttachUndoesItself(t *testing.T) {
	for _, test := range []struct {
		name, iface, mode, policy string
		words                     []string
	}{
		{"no such interface", "eth7", "auto", "limit: 1", []string{"eth7", "no such interface"}},
		{"no native XDP", "lo", "native", "limit: 1", []string{"lo", "--mode generic"}},
		{"too few queues for native", "narrow", "native", "limit: 1", []string{"narrow", "--mode generic"}},
		{"bad policy", "eth0", "auto", "limit: 0", []string{"limit", ".yaml:"}},
		{"no policy for the kernel", "eth0", "auto", "limit: 1, mode: off", []string{"nothing for the kernel"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.addNarrow()
			r.failWeir(test.words, "attach", test.iface, "-c", r.config(test.policy+", window: 1s"), "--mode", test.mode)
			r.expectNothingPinned()
			r.expectInterfaceFree()
		})
	}
}

// addNarrow gives host B a veth whose other end has more queues to send with than it has to receive with.
func (r *rig) addNarrow() {
	r.Helper()
	narrow := netlink.NewVeth(netlink.LinkAttrs{Name: "narrow", NumRxQueues: 1, NumTxQueues: 1, TxQLen: -1})
	narrow.PeerName, narrow.PeerNumTxQueues, narrow.PeerNumRxQueues = "wide", 2, 2
	err := r.B.Do(func() error {
		if err := netlink.LinkAdd(narrow); err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(narrow), setUp("wide"))
	})
	if err != nil {
		r.Fatal(err)
	}
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// What has no native XDP gets the generic one if it is asked for, or if the choice is weir's, and status says which.
func TestAutoFallsBackToGeneric(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	r.addNarrow()
	for _, iface := range []string{"lo", "narrow"} {
		res := r.weir("attach", iface, "-c", r.config("limit: 1, window: 1s"))
		if res.code != 0 {
			t.Errorf("%s: %v", iface, res)
			continue
		}
		if a := r.attached(); a.Interface != iface || a.Mode != "generic" {
			t.Errorf("status shows %s in mode %q, want %s in generic", a.Interface, a.Mode, iface)
		}
		r.mustWeir("detach", iface)
	}
}

// The program takes frames in several buffers, so that jumbo frames are no reason for the driver to refuse it.
func TestJumboFramesAreLimitedNatively(t *testing.T) {
	r := newRig(t, lab.PairSpec{MTU: 9000})
	r.attach("native", "limit: 1, window: 1h, burst: 20")
	sniffer := r.sniff()
	large := func(f *lab.Frame) { f.Payload = make([]byte, 1900) }
	r.flood(lab.Load{Rate: 10_000, Count: 100}, r.frame(r.A.IPv4, large), r.frame(r.A.IPv6, large))
	arrived := r.arrivals(sniffer, 40)
	if a, b := from(arrived, r.A.IPv4), from(arrived, r.A.IPv6); a != 20 || b != 20 {
		t.Errorf("%d and %d packets arrived, want 20 of each", a, b)
	}
}

// An update that fails leaves what is running as it is: program, policies, and every bucket.
func TestAFailedUpdateLeavesThePoliciesEnforced(t *testing.T) {
	const rate, burst = 1000, 100
	r := newRig(t, lab.PairSpec{})
	r.attach("native", fmt.Sprintf("limit: %d, window: 1s, burst: %d", rate, burst))
	before := r.attached()
	sniffer := r.sniff()
	f := r.during(r.frame(r.A.IPv4, nil), func() {
		r.failWeir([]string{"table", "1048576", "65536"}, "attach", "eth0", "-c",
			r.configWith("table: {entries: 65536}", "limit: 100000, window: 1s"))
		r.failWeir([]string{"burst"}, "attach", "eth0", "-c", r.config("limit: 100000, window: 1s, burst: 0"))
		r.failWeir([]string{"native mode"}, "attach", "eth0", "-c", r.config("limit: 100000, window: 1s"), "--mode", "generic")
		if err := r.attachObjects(loader.ModeNative, refusedProgram(t), r.policies("p0", rate, burst, policy.UnitRequests)...); err == nil {
			t.Error("a program that the verifier refuses was attached")
		}
	})
	if now := r.attached(); now.Program != before.Program || len(now.Policies) != 1 || now.Policies[0].Burst != burst {
		t.Errorf("after the failures %+v is attached, want %+v", now, before)
	}
	arrived := r.arrivals(sniffer, r.counters().Policies["p0"][policy.VerdictPass].Packets)
	r.expectRate(f, from(arrived, r.A.IPv4), rate, burst, 1)
	r.expectOneSet()
}

// refusedProgram is the built-in program with an end that the verifier can't accept.
func refusedProgram(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	spec := objects(t)
	p := spec.Programs["weir_xdp"]
	p.Instructions = append(asm.Instructions{p.Instructions[0], asm.LoadMem(asm.R0, asm.R10, -512, asm.DWord),
		asm.LoadMem(asm.R0, asm.R0, 0, asm.DWord)}, p.Instructions[1:]...)
	return spec
}

func objects(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := loader.ObjectsOf(loader.HookXDP)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// attachObjects attaches another object than the built-in one, by the loader.
func (r *rig) attachObjects(mode loader.Mode, spec *ebpf.CollectionSpec, policies ...policy.Policy) error {
	return r.B.Do(func() error {
		d, err := loader.Lock(r.state, limit)
		if err != nil {
			return err
		}
		defer d.Close()
		_, err = d.Attach(loader.AttachOptions{
			Interface: r.B.Interface, Mode: mode, Policies: policies, TableEntries: 1 << 20, Objects: spec,
		})
		return err
	})
}

// policies are those of attachObjects: one, with a limit per second.
func (r *rig) policies(name string, limit, burst uint64, unit policy.Unit) []policy.Policy {
	p := policy.Policy{Name: name, Scope: policy.ScopePerIP, Limit: limit, Window: time.Second, Burst: burst, Unit: unit}
	return []policy.Policy{p.WithDefaults()}
}

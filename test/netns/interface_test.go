package netns

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// unplug deletes host B's interface, and so the cable.
func (r *rig) unplug() {
	r.Helper()
	err := r.B.Do(func() error {
		l, err := netlink.LinkByName(r.B.Interface)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if err != nil {
		r.Fatal(err)
	}
}

// plug makes a new cable like the old one, without addresses.
func (r *rig) plug() {
	r.Helper()
	far, err := os.Open(r.A.Namespace.Path())
	if err != nil {
		r.Fatal(err)
	}
	defer far.Close()
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: r.B.Interface, HardwareAddr: r.B.MAC, TxQLen: -1})
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = r.A.Interface, r.A.MAC, netlink.NsFd(far.Fd())
	err = r.B.Do(func() error {
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return setUp(r.B.Interface)
	})
	if err == nil {
		err = r.A.Do(func() error { return setUp(r.A.Interface) })
	}
	if err != nil {
		r.Fatal(err)
	}
	r.await("the cable has a carrier", func() (up bool) {
		_ = r.B.Do(func() error {
			l, err := netlink.LinkByName(r.B.Interface)
			up = err == nil && l.Attrs().OperState == netlink.OperUp
			return err
		})
		return up
	})
}

func TestAVanishedInterfaceIsToldAndComesBack(t *testing.T) {
	const drained = "limit: 1, window: 1h, burst: 10"
	r := newRig(t, lab.PairSpec{})
	r.attach("native", drained)
	r.flood(lab.Load{Rate: 10_000, Count: 100}, r.frame(r.A.IPv4, nil))
	before := r.attached()

	r.unplug()
	a := r.attached()
	if a.State != "vanished" || a.Interface != "eth0" || a.Index != 0 {
		t.Errorf("status shows %s %s with index %d, want eth0 vanished", a.Interface, a.State, a.Index)
	}
	r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: 10, policy.VerdictDrop: 90})

	// A new interface has nothing of the old one on it until weir attaches again; then it has the counters too, and
	// the source still owes what it owed.
	r.plug()
	r.expectInterfaceFree()
	r.attach("native", drained)
	if a := r.attached(); a.State != "attached" || a.Index == 0 || a.Program.ID == before.Program.ID {
		t.Errorf("status shows %s with index %d and program %d", a.State, a.Index, a.Program.ID)
	}
	r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: 10, policy.VerdictDrop: 90})
	sniffer := r.sniff()
	if err := lab.Inject(r.within(limit), r.A, 10_000, slices.Repeat([][]byte{r.frame(r.A.IPv4, nil)}, 50)...); err != nil {
		t.Fatal(err)
	}
	r.await("the new interface is enforced", func() bool {
		return r.counters().Policies["p0"][policy.VerdictDrop].Packets >= 140
	})
	if n := from(sniffer.Counts(), r.A.IPv4); n > 0 {
		t.Errorf("%d packets of a source that owes arrived", n)
	}
}

func TestDetachOfAVanishedInterface(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	r.attach("native", "limit: 1, window: 1h, burst: 10")
	r.unplug()
	if res := r.mustWeir("detach", "eth0"); !strings.Contains(res.stdout, "eth0") {
		t.Errorf("detach says %v", res)
	}
	r.expectNothingPinned()
}

// The daemon attaches by itself to an interface that comes back.
func TestTheDaemonFollowsItsInterface(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	d := r.daemon(r.configWith(onEth0, "limit: 1, window: 1h, burst: 10"))
	r.flood(lab.Load{Rate: 10_000, Count: 100}, r.frame(r.A.IPv4, nil))
	r.unplug()
	if a := r.attached(); a.State != "vanished" {
		t.Errorf("status shows %s, want vanished", a.State)
	}
	r.plug()
	r.awaitProgram(0)
	if err := lab.Inject(r.within(limit), r.A, 10_000, slices.Repeat([][]byte{r.frame(r.A.IPv4, nil)}, 50)...); err != nil {
		t.Fatal(err)
	}
	r.await("the new interface is enforced", func() bool {
		return r.counters().Policies["p0"][policy.VerdictDrop].Packets >= 140
	})
	if n := r.counters().Policies["p0"][policy.VerdictPass].Packets; n != 10 {
		t.Errorf("%d packets passed, want the 10 from before", n)
	}
	if strings.Contains(d.log.String(), "level=ERROR") {
		t.Errorf("the daemon complains:\n%s", d.log.String())
	}
}

func TestDetachLeavesNothing(t *testing.T) {
	for name, args := range map[string][]string{"one interface": {"eth0"}, "all": {"--all"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			r.attach("native", "limit: 10, window: 1s", "limit: 1000000, window: 1s, unit: bytes, mode: shadow")
			r.flood(lab.Load{Rate: 10_000, Count: 1000}, r.frame(r.A.IPv4, nil), r.frame(r.A.IPv6, nil))
			r.attach("native", "limit: 20, window: 1s")
			r.mustWeir(append([]string{"detach"}, args...)...)
			if _, err := os.Stat(r.state); !os.IsNotExist(err) {
				t.Errorf("the state directory is still there: %v", list(r.state))
			}
			r.expectNothingPinned()
			r.expectInterfaceFree()
			if len(r.programs) != 2 {
				t.Errorf("programs %v were seen, want 2", r.programs)
			}
			r.expectFreed()
			sniffer := r.sniff()
			if err := lab.Inject(r.within(limit), r.A, 10_000, slices.Repeat([][]byte{r.frame(r.A.IPv4, nil)}, 100)...); err != nil {
				t.Fatal(err)
			}
			r.arrivals(sniffer, 100)
			// Nothing to detach is a failure for a named interface, and what was wanted for all.
			if res := r.weir("detach", "eth0"); res.code != 1 || !strings.Contains(res.stderr, "nothing is attached") {
				t.Errorf("detach of nothing: %v", res)
			}
			r.mustWeir("detach", "--all")
		})
	}
}

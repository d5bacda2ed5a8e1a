package loader

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
)

// foreign is somebody else's program, which passes everything on.
func (s *stage) foreign(kind ebpf.ProgramType, verdict int32) *ebpf.Program {
	s.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebody_elses", Type: kind, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { p.Close() })
	return p
}

func (s *stage) foreignXDP(iface string) {
	s.Helper()
	p := s.foreign(ebpf.XDP, xdpPass)
	s.in(func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(l, p.FD(), unix.XDP_FLAGS_DRV_MODE)
	})
}

// foreignFilter adds a filter, and a clsact queueing discipline if there is none.
func (s *stage) foreignFilter(iface string, hook Hook, priority uint16, handle uint32) {
	s.Helper()
	p := s.foreign(ebpf.SchedCLS, -1)
	s.in(func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		if err := netlink.QdiscAdd(clsact(l)); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: l.Attrs().Index, Parent: hookTable[hook].parent, Handle: handle, Priority: priority, Protocol: unix.ETH_P_ALL,
			},
			Fd: p.FD(), Name: "theirs", DirectAction: true,
		})
	})
}

func (s *stage) filters(iface string, hook Hook) (names []string) {
	s.Helper()
	s.in(func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		list, err := netlink.FilterList(l, hookTable[hook].parent)
		for _, f := range list {
			names = append(names, f.(*netlink.BpfFilter).Name)
		}
		return err
	})
	return names
}

func (s *stage) detach(iface string, hook Hook) error {
	return s.ns.Do(func() error {
		return s.withLock(func(d *StateDir) error { return d.DetachHook(iface, hook) })
	})
}

// At a TC hook there is room for others: weir comes behind those that are there, and goes without them.
func TestOthersAtATCHookStay(t *testing.T) {
	for _, hook := range []Hook{HookTCIngress, HookTCEgress} {
		t.Run(string(hook)+" tcx", func(t *testing.T) {
			testutil.SkipIfKernelBelow(t, 6, 6, "no tcx")
			s := newStage(t)
			theirs := s.foreign(ebpf.SchedCLS, -1)
			var list func() []ebpf.ProgramID
			s.in(func() error {
				iface, err := netlink.LinkByName("v0")
				if err != nil {
					return err
				}
				at := link.TCXOptions{Program: theirs, Interface: iface.Attrs().Index, Attach: hookTable[hook].tcx}
				l, err := link.AttachTCX(at)
				if err != nil {
					return err
				}
				t.Cleanup(func() { l.Close() })
				list = func() (ids []ebpf.ProgramID) {
					s.in(func() error {
						all, err := link.QueryPrograms(link.QueryOptions{Target: at.Interface, Attach: at.Attach})
						for _, p := range all.Programs {
							ids = append(ids, p.ID)
						}
						return err
					})
					return ids
				}
				return nil
			})
			before := list()
			s.mustAttach([]target{{"v0", hook, ModeAuto}}, oldSet)
			s.mustAttach([]target{{"v0", hook, ModeAuto}}, newSet)
			if ids := list(); len(ids) != 2 || ids[0] != before[0] {
				t.Errorf("programs %v are on the hook, want %v and weir's behind it", ids, before)
			}
			if err := s.detach("v0", hook); err != nil {
				t.Error(err)
			}
			if ids := list(); len(ids) != 1 || ids[0] != before[0] {
				t.Errorf("programs %v are left, want %v", ids, before)
			}
		})
		t.Run(string(hook)+" clsact", func(t *testing.T) {
			s := newStage(t)
			s.foreignFilter("v0", hook, 1, 1)
			x := []target{{"v0", hook, ModeClsAct}}
			s.mustAttach(x, oldSet)
			s.mustAttach(x, newSet)
			s.expectEverywhere(x, newSet)
			if names := strings.Join(s.filters("v0", hook), " "); names != "theirs weir" {
				t.Errorf("filters: %s, want theirs before weir's, once each", names)
			}
			if err := s.detach("v0", hook); err != nil {
				t.Error(err)
			}
			if names, q := strings.Join(s.filters("v0", hook), " "), s.qdiscs(); names != "theirs" || len(q) != 1 {
				t.Errorf("filters %q and disciplines %v are left, want theirs", names, q)
			}
		})
	}
}

// A clsact discipline that was there before weir is there after it, and one that weir made goes with its last filter.
func TestWhoMadeTheQueueingDiscipline(t *testing.T) {
	both := []target{{"v0", HookTCIngress, ModeClsAct}, {"v0", HookTCEgress, ModeClsAct}}
	for _, first := range both {
		t.Run("made, first to go "+string(first.Hook), func(t *testing.T) {
			s := newStage(t)
			s.mustAttach(both, oldSet)
			if err := s.detach("v0", first.Hook); err != nil {
				t.Error(err)
			}
			if q := s.qdiscs(); len(q) != 1 {
				t.Errorf("disciplines %v, want the one that the other filter needs", q)
			}
			s.detachAll()
		})
	}
	t.Run("found", func(t *testing.T) {
		s := newStage(t)
		s.in(func() error {
			l, err := netlink.LinkByName("v0")
			if err != nil {
				return err
			}
			return netlink.QdiscAdd(clsact(l))
		})
		s.mustAttach(both, oldSet)
		s.in(func() error { return s.withLock((*StateDir).DetachAll) })
		if q := s.qdiscs(); len(q) != 1 || len(s.filters("v0", HookTCIngress)) != 0 {
			t.Errorf("disciplines %v, want the one that was found", q)
		}
	})
}

func TestTakenPlacesAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		take  func(*stage)
		place target
		words []string
	}{
		"a filter in weir's place": {
			func(s *stage) { s.foreignFilter("v0", HookTCIngress, filterPriority, filterHandle) },
			target{"v0", HookTCIngress, ModeClsAct}, []string{`"theirs"`, "somebody_elses", "tc filter del dev v0 ingress"},
		},
		"an ingress discipline, and egress is asked for": {
			func(s *stage) {
				s.in(func() error {
					l, err := netlink.LinkByName("v0")
					if err != nil {
						return err
					}
					return netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
						LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
					}})
				})
			},
			target{"v0", HookTCEgress, ModeClsAct}, []string{`"ingress"`, "tc qdisc del dev v0 ingress"},
		},
		"an XDP program": {
			func(s *stage) { s.foreignXDP("v0") },
			target{"v0", HookXDP, ModeAuto}, []string{"somebody_elses", "ip link set dev v0 xdp off"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			test.take(s)
			err := s.attach([]target{test.place}, newSet, nil)
			if !errors.Is(err, ErrConflict) {
				t.Fatalf("attach: %v", err)
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("want %q in %q", word, err)
				}
			}
			if exists(s.state) {
				t.Errorf("%s is left", s.state)
			}
		})
	}
}

// An ingress discipline has filters for what comes in as clsact has, and is as good.
func TestAnIngressDisciplineServesForIngress(t *testing.T) {
	s := newStage(t)
	s.in(func() error {
		l, err := netlink.LinkByName("v0")
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
		}})
	})
	x := []target{{"v0", HookTCIngress, ModeClsAct}}
	s.mustAttach(x, oldSet)
	s.expectEverywhere(x, oldSet)
	if err := s.detach("v0", HookTCIngress); err != nil {
		t.Error(err)
	}
	if q := s.qdiscs(); len(q) != 1 || q[0] != "ingress" {
		t.Errorf("disciplines %v, want the ingress that was found", q)
	}
}

// Where tcx is refused for want of it, and for nothing else, the filter is tried.
func TestStepsDown(t *testing.T) {
	for _, err := range []error{unix.EPERM, unix.ENOMEM, ErrConflict, unix.EINVAL} {
		if stepsDown(err) {
			t.Errorf("%v leads on to the next mode", err)
		}
	}
	iface := &netlink.Dummy{}
	if err := explainAttach(link.ErrNotSupported, iface, ModeTCX); !stepsDown(err) || !errors.Is(err, ErrNoTCX) {
		t.Errorf("no tcx: %v", err)
	}
}

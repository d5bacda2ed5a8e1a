package loader

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

// allHooks are those of two interfaces, in both ways where there are two.
var allHooks = []target{
	{"v0", HookXDP, ModeNative}, {"v0", HookTCIngress, bestTC}, {"v0", HookTCEgress, bestTC},
	{"v1", HookXDP, ModeGeneric}, {"v1", HookTCIngress, ModeClsAct}, {"v1", HookTCEgress, ModeClsAct},
}

// Three hooks of two interfaces are attached in one transaction, have one table, and leave nothing.
func TestThreeHooksOfTwoInterfaces(t *testing.T) {
	s := newStage(t)
	s.mustAttach(allHooks, oldSet)
	s.expectEverywhere(allHooks, oldSet)
	var shown []target
	for _, a := range s.attachments() {
		shown = append(shown, target{a.Interface, a.Hook, a.Mode})
	}
	for _, x := range allHooks {
		if !slices.Contains(shown, x) {
			t.Errorf("status shows %v, without %v", shown, x)
		}
	}
	// What a source took at one hook it has not at another; what goes out has buckets of its own.
	s.sources++
	frame, n := udpFrame(s.sources), uint64(0)
	for i := range flooded {
		x := allHooks[i%len(allHooks)]
		p, err := ebpf.NewProgramFromID(s.onHook(x))
		if err != nil {
			t.Fatal(err)
		}
		verdict, err := p.Run(&ebpf.RunOptions{Data: frame})
		if err != nil {
			t.Fatal(err)
		}
		if p.Close(); passed(x.Hook, verdict) {
			n++
		}
	}
	if n != 2*oldSet.Burst {
		t.Errorf("%d packets passed at all hooks together, want %d in each direction", n, oldSet.Burst)
	}
	s.mustAttach(allHooks, newSet)
	s.expectEverywhere(allHooks, newSet)
	s.detachAll()
}

// Apply changes everything that is attached, from outside of its network namespace too.
func TestApplyChangesEverythingAttached(t *testing.T) {
	for name, in := range map[string]func(s *stage, fn func() error) error{
		"inside":  func(s *stage, fn func() error) error { return s.ns.Do(fn) },
		"outside": func(s *stage, fn func() error) error { return fn() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.mustAttach(allHooks, oldSet)
			var changed []*Attachment
			err := in(s, func() error {
				return s.withLock(func(d *StateDir) (err error) {
					changed, err = d.Apply(policy.Document{Policies: newSet.policies()})
					return err
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(changed) != len(allHooks) {
				t.Errorf("%d attachments changed, want %d", len(changed), len(allHooks))
			}
			s.expectEverywhere(allHooks, newSet)
		})
	}
	t.Run("nothing", func(t *testing.T) {
		s := newStage(t)
		err := s.withLock(func(d *StateDir) error { _, err := d.Apply(policy.Document{Policies: newSet.policies()}); return err })
		if !errors.Is(err, ErrNothingAttached) {
			t.Errorf("Apply: %v", err)
		}
	})
}

// onLink does something to an interface of a stage.
func (s *stage) onLink(name string, do func(netlink.Link) error) {
	s.Helper()
	s.in(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return do(l)
	})
}

// rename gives an interface another name. Kernels before 6.2 want it down for that.
func (s *stage) rename(from, to string) {
	s.Helper()
	s.onLink(from, func(l netlink.Link) error {
		if err := netlink.LinkSetDown(l); err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetName(l, to), netlink.LinkSetUp(l))
	})
}

func atBothTCHooks(mode Mode) []target {
	return []target{{"v0", HookTCIngress, mode}, {"v0", HookTCEgress, mode}}
}

// tcModes are those that this kernel has.
var tcModes = slices.Compact([]Mode{bestTC, ModeClsAct})

// An interface that was renamed keeps its attachments, which bear its new name; a change finds them by it.
func TestARenamedInterfaceKeepsItsAttachments(t *testing.T) {
	for _, mode := range tcModes {
		t.Run(string(mode), func(t *testing.T) {
			s := newStage(t)
			s.mustAttach(atBothTCHooks(mode), oldSet)
			whole := s.objects()
			s.rename("v0", "lan.7")
			renamed := []target{{"lan.7", HookTCIngress, mode}, {"lan.7", HookTCEgress, mode}}
			s.expectEverywhere(renamed, oldSet)
			s.mustAttach(renamed, newSet)
			s.expectEverywhere(renamed, newSet)
			s.expectObjects(whole)
			if err := s.ns.Do(func() error { return s.withLock(func(d *StateDir) error { return d.Detach("lan.7") }) }); err != nil {
				t.Error(err)
			}
			s.rename("lan.7", "v0")
			s.expectNothing()
		})
	}
}

// An interface that vanished is told; another of its name gets the counters of the old one.
func TestAVanishedInterfaceComesBack(t *testing.T) {
	for _, mode := range tcModes {
		t.Run(string(mode), func(t *testing.T) {
			s := newStage(t)
			x := atBothTCHooks(mode)
			s.mustAttach(x, oldSet)
			whole := s.objects()
			s.passes(x[0])
			s.onLink("v0", netlink.LinkDel)
			for _, a := range s.attachments() {
				if a.State != StateVanished || a.Index != 0 || a.Interface != "v0" {
					t.Errorf("status shows %s %s with index %d", a.Interface, a.State, a.Index)
				}
			}
			s.cable("v0", "v1")
			if id := s.onHook(x[0]); id != 0 {
				t.Errorf("program %d is on a new interface", id)
			}
			s.mustAttach(x, oldSet)
			s.expectEverywhere(x, oldSet)
			for _, a := range s.attachments() {
				// Twice those of passes at ingress, once at egress, and with them the cable's own.
				if n := a.Counters.Policies["old"]["pass"].Packets; n < oldSet.Burst || a.Hook == HookTCIngress && n < 2*oldSet.Burst {
					t.Errorf("%s: %d packets are counted as passed", a.Hook, n)
				}
			}
			s.expectObjects(whole)
			s.detachAll()
		})
	}
}

// An interface that moves to another network namespace takes a link along; the kernel removes its queueing disciplines.
func TestAnInterfaceMovesAway(t *testing.T) {
	for _, mode := range tcModes {
		want := map[Mode]State{ModeTCX: StateAttached, ModeClsAct: StateVanished}[mode]
		t.Run(string(mode), func(t *testing.T) {
			s := newStage(t)
			s.mustAttach(atBothTCHooks(mode), oldSet)
			far, err := lab.NewNamespace()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { far.Close() })
			ns, err := os.Open(far.Path())
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			s.onLink("v0", func(l netlink.Link) error { return netlink.LinkSetNsFd(l, int(ns.Fd())) })
			for _, a := range s.attachments() {
				if a.State != want {
					t.Errorf("%s: %s, want %s", a.Hook, a.State, want)
				}
			}
			s.in(func() error { return s.withLock((*StateDir).DetachAll) })
			s.expectObjects(objectCount{})
		})
	}
}

// A filter that somebody took off is told as what it is, and put back by the next attach.
func TestAFilterThatWasTakenOff(t *testing.T) {
	s := newStage(t)
	x := atBothTCHooks(ModeClsAct)
	s.mustAttach(x, oldSet)
	s.onLink("v0", func(l netlink.Link) error { return netlink.QdiscDel(clsact(l)) })
	for _, a := range s.attachments() {
		if a.State != StateRemoved {
			t.Errorf("%s: %s, want %s", a.Hook, a.State, StateRemoved)
		}
	}
	s.mustAttach(x, newSet)
	s.expectEverywhere(x, newSet)
	s.detachAll()
}

// Filters are seen and taken away from outside of their network namespace, and are gone with it.
func TestFiltersInAnotherNamespace(t *testing.T) {
	s := newStage(t)
	x := atBothTCHooks(ModeClsAct)
	outside := func() (all []Attachment) {
		d, err := Open(s.state)
		if err != nil {
			t.Fatal(err)
		}
		if all, err = d.Attachments(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	s.mustAttach(x, oldSet)
	for _, a := range outside() {
		if a.State != StateAttached || a.Program.ID != uint32(s.onHook(target{"v0", a.Hook, a.Mode})) {
			t.Errorf("from outside: %+v", a)
		}
	}
	if err := s.withLock((*StateDir).DetachAll); err != nil {
		t.Error(err)
	}
	s.expectNothing()

	s.mustAttach(x, oldSet)
	if err := s.ns.Close(); err != nil {
		t.Fatal(err)
	}
	s.await("the filters have vanished", func() bool {
		return !slices.ContainsFunc(outside(), func(a Attachment) bool { return a.State != StateVanished })
	})
	if err := s.withLock((*StateDir).DetachAll); err != nil {
		t.Error(err)
	}
	var err error
	if s.ns, err = lab.NewNamespace(); err != nil {
		t.Fatal(err)
	}
	s.expectObjects(objectCount{})
}

func TestModesOfHooks(t *testing.T) {
	for _, hook := range append(Hooks(), "") {
		for _, mode := range []Mode{ModeAuto, ModeNative, ModeGeneric, ModeTCX, ModeClsAct, "fast"} {
			ladder, err := hook.ladder(mode)
			if slices.Contains(hook.Modes(), mode) != (err == nil) || (err == nil) != (len(ladder) > 0) {
				t.Errorf("%s at %q: %v, %v", mode, hook, ladder, err)
			}
		}
	}
	if _, err := Hook("tc").ladder(ModeAuto); err == nil {
		t.Error("a hook that does not exist has modes")
	}
}

// What the loader knows of one object holds of the other: the maps that they share are alike, and both have all
// constants.
func TestTheObjectsAgree(t *testing.T) {
	xdp, err := loadXdp()
	if err != nil {
		t.Fatal(err)
	}
	tc, err := loadTc()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range xdp.Maps {
		other := tc.Maps[name]
		if other == nil {
			t.Errorf("tc has no map %s", name)
			continue
		}
		if name != ".rodata" && (m.Type != other.Type || m.KeySize != other.KeySize || m.ValueSize != other.ValueSize || m.Flags != other.Flags) {
			t.Errorf("map %s: %v and %v", name, m, other)
		}
	}
	for name, v := range xdp.Variables {
		if other := tc.Variables[name]; other == nil || other.Size() != v.Size() {
			t.Errorf("constant %s: %v and %v", name, v, other)
		}
	}
}

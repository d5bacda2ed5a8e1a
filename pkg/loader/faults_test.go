package loader

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// expectNothing holds that neither the kernel nor the state directory has anything of the stage.
func (s *stage) expectNothing() {
	s.Helper()
	for _, x := range []string{"v0", "v1"} {
		for _, h := range Hooks() {
			if id := s.onHook(target{Interface: x, Hook: h}); id != 0 {
				s.Errorf("program %d is on %s at %s", id, x, h)
			}
		}
	}
	if q := s.qdiscs(); len(q) > 0 {
		s.Errorf("queueing disciplines are left: %v", q)
	}
	if exists(s.state) {
		s.Errorf("%s is left", s.state)
	}
	s.expectObjects(objectCount{})
}

// qdiscs lists those of the interfaces that have filters for what comes in, or both ways.
func (s *stage) qdiscs() (all []string) {
	s.Helper()
	s.in(func() error {
		list, err := netlink.QdiscList(nil)
		for _, q := range list {
			if q.Attrs().Parent == netlink.HANDLE_CLSACT {
				all = append(all, q.Type())
			}
		}
		return err
	})
	return all
}

var errInjected = fmt.Errorf("injected: %w", unix.ENOSPC)

// failAt fails one step, and counts them.
func failAt(step int, count *int) func(string) error {
	*count = 0
	return func(name string) error {
		*count++
		if *count-1 == step {
			return fmt.Errorf("%s: %w", name, errInjected)
		}
		return nil
	}
}

// Every step of a change may fail: a full bpf file system, no memory. After each, everything is as it was.
func TestEveryStepOfAReloadMayFail(t *testing.T) {
	s := newStage(t)
	s.mustAttach(everyHook, oldSet)
	whole := s.objects()
	for step := 0; ; step++ {
		var steps int
		err := s.attach(everyHook, newSet, failAt(step, &steps))
		if err == nil {
			if step < minSteps {
				t.Errorf("%d steps, want %d at least", step, minSteps)
			}
			break
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("step %d: %v", step, err)
		}
		s.expectEverywhere(everyHook, oldSet)
		s.expectObjects(whole)
		if t.Failed() {
			t.Fatalf("after %v", err)
		}
	}
	s.expectEverywhere(everyHook, newSet)
	s.expectObjects(whole)
}

func TestEveryStepOfTheFirstAttachMayFail(t *testing.T) {
	s := newStage(t)
	for step := 0; ; step++ {
		var steps int
		err := s.attach(firstHooks, newSet, failAt(step, &steps))
		if err == nil {
			if step < minSteps/2 {
				t.Errorf("%d steps, want %d at least", step, minSteps/2)
			}
			break
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("step %d: %v", step, err)
		}
		s.expectNothing()
		if t.Failed() {
			t.Fatalf("after %v", err)
		}
	}
	s.expectEverywhere(firstHooks, newSet)
}

// spoil changes the object of the last of several attachments: what fails must undo what went well before it.
func (s *stage) spoil(at []target, p set, how func(*AttachOptions)) error {
	s.Helper()
	return s.ns.Do(func() error {
		all, err := options(s.name, at, p)
		if err != nil {
			return err
		}
		how(&all[len(all)-1])
		return s.withLock(func(d *StateDir) error { _, err := d.AttachAll(all); return err })
	})
}

// ballast is a map that no machine has the memory for: 2^31 entries of 64 bytes.
func ballast(o *AttachOptions) {
	o.Objects.Maps["ballast"] = &ebpf.MapSpec{Name: "ballast", Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1 << 31}
}

// refused gives the program a beginning that the verifier can't accept.
func refused(o *AttachOptions) {
	p := o.Objects.Programs[entryPoint(o.Objects)]
	p.Instructions = append(asm.Instructions{p.Instructions[0], asm.LoadMem(asm.R0, asm.R10, -8, asm.DWord),
		asm.LoadMem(asm.R0, asm.R0, 0, asm.DWord)}, p.Instructions[1:]...)
}

func TestWhatCantBeLoadedChangesNothing(t *testing.T) {
	var verifier *ebpf.VerifierError
	for name, test := range map[string]struct {
		how  func(*AttachOptions)
		want func(error) bool
	}{
		"a map can't be allocated": {ballast, func(err error) bool {
			return errors.Is(err, unix.ENOMEM) && strings.Contains(err.Error(), "table.entries")
		}},
		"the verifier refuses": {refused, func(err error) bool { return errors.As(err, &verifier) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if err := s.spoil(everyHook, newSet, test.how); !test.want(err) {
				t.Errorf("first attach: %v", err)
			}
			s.expectNothing()
			s.mustAttach(everyHook, oldSet)
			whole := s.objects()
			if err := s.spoil(everyHook, newSet, test.how); !test.want(err) {
				t.Errorf("reload: %v", err)
			}
			s.expectEverywhere(everyHook, oldSet)
			s.expectObjects(whole)
		})
	}
}

func TestATableThatCantBeAllocatedLeavesNothing(t *testing.T) {
	s := newStage(t)
	err := s.spoil(everyHook[:1], newSet, func(o *AttachOptions) { o.TableEntries = 1 << 33 })
	if !errors.Is(err, unix.ENOMEM) {
		t.Errorf("a table of 128 GiB: %v", err)
	}
	s.expectNothing()
}

// An attachment's error says which it is, however many there are.
func TestAnAttachErrorNamesItsInterface(t *testing.T) {
	s := newStage(t)
	var which *AttachError
	err := s.attach([]target{{"v0", HookXDP, ModeAuto}, {"nowhere", HookTCEgress, ModeAuto}}, newSet, nil)
	if !errors.As(err, &which) || which.Interface != "nowhere" || which.Hook != HookTCEgress || !errors.Is(err, ErrNoInterface) {
		t.Errorf("%#v", err)
	}
	s.expectNothing()
}

// Somebody else takes a place between the look at it and the attach: that one stays, and everything else is undone.
func TestLostRacesForAPlace(t *testing.T) {
	for name, test := range map[string]struct {
		lost  target
		step  string
		place func(*stage)
	}{
		"XDP":            {everyHook[0], "swap", func(s *stage) { s.foreignXDP("v0") }},
		"clsact ingress": {target{"v0", HookTCIngress, ModeClsAct}, "filter", func(s *stage) { s.foreignFilter("v0", HookTCIngress, filterPriority, filterHandle) }},
		"clsact egress":  {everyHook[2], "filter", func(s *stage) { s.foreignFilter("v0", HookTCEgress, filterPriority, filterHandle) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			other := target{"v1", HookTCEgress, bestTC}
			taken := false
			err := s.attach([]target{other, test.lost}, newSet, func(step string) error {
				// The first swap is that of the other one.
				if step == test.step && s.onHook(other) != 0 && !taken {
					taken = true
					test.place(s)
				}
				return nil
			})
			if !errors.Is(err, ErrConflict) || !taken {
				t.Errorf("attach: %v", err)
			}
			if id := s.onHook(other); id != 0 {
				t.Errorf("program %d is on %v, want none", id, other)
			}
			s.expectObjects(objectCount{})
			if exists(s.state) {
				t.Errorf("%s is left", s.state)
			}
		})
	}
}

// A bpf file system that can't be written to any more leaves the old set in force; once it can, the next change works.
func TestAFileSystemThatRefusesPins(t *testing.T) {
	s := newStage(t)
	mount := t.TempDir()
	if err := unix.Mount("bpf", mount, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	usual := s.state
	s.state = mount + "/weir"
	defer func() { s.state = usual }() // for what is looked at when the mount is gone
	s.mustAttach(everyHook, oldSet)
	whole := s.objects()
	readOnly := func(flag uintptr) {
		if err := unix.Mount("", mount, "", unix.MS_REMOUNT|flag, ""); err != nil {
			t.Fatal(err)
		}
	}
	readOnly(unix.MS_RDONLY)
	if err := s.attach(everyHook, newSet, nil); !errors.Is(err, unix.EROFS) {
		t.Errorf("attach: %v", err)
	}
	for _, x := range everyHook {
		if n := s.passes(x); n != oldSet.Burst { // status can't say: the kernel opens no link there
			t.Errorf("%v lets %d packets pass, want %d", x, n, oldSet.Burst)
		}
	}
	s.expectObjects(whole)
	readOnly(0)
	s.expectEverywhere(everyHook, oldSet)
	s.mustAttach(everyHook, newSet)
	s.expectEverywhere(everyHook, newSet)
	s.detachAll()
}

// Whoever removes the state directory detaches what links hold. A change that it happens to fails, and claims nothing.
func TestTheStateDirectoryVanishesDuringAChange(t *testing.T) {
	x := everyHook[1:2]
	if bestTC != ModeTCX {
		x = everyHook[:1] // which a link holds on every kernel
	}
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprintf("attached before: %v", before), func(t *testing.T) {
			s := newStage(t)
			for step, steps := 0, 1; step < steps; step++ {
				if before {
					s.mustAttach(x, oldSet)
				}
				steps = 0
				err := s.attach(x, newSet, func(string) error {
					if steps++; steps-1 == step {
						return os.RemoveAll(s.state)
					}
					return nil
				})
				if err == nil && steps > step {
					t.Errorf("step %d: the change succeeded", step)
				}
				s.awaitFree(x[0])
				s.expectNothing()
				s.mustAttach(x, newSet)
				s.expectEverywhere(x, newSet)
				s.detachAll()
			}
		})
	}
}

func TestALockOnARemovedDirectoryIsNamed(t *testing.T) {
	s := newStage(t)
	err := s.ns.Do(func() error {
		return s.withLock(func(d *StateDir) error {
			if err := os.RemoveAll(s.state); err != nil {
				return err
			}
			all, err := options(s.name, everyHook, newSet)
			if err != nil {
				return err
			}
			_, err = d.AttachAll(all)
			return err
		})
	})
	if !errors.Is(err, ErrStateDirGone) {
		t.Errorf("attach: %v", err)
	}
	s.expectNothing()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
)

// TestChangeIsWhole: an interface that the kernel refuses keeps the change from all of them.
func TestChangeIsWhole(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0", "eth1", "eth2")
	r := newTestReconciler(k, "eth0", "eth1")
	r.mustUpdate(t, time.Time{})
	before := r.want

	k.fail["attach eth2"] = unix.ENOMEM
	if err := r.Change(wanted("eth0", "eth1", "eth2"), time.Time{}); !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("change: %v, want ENOMEM", err)
	}
	if len(r.want.interfaces) != len(before.interfaces) || len(k.attached) != 2 {
		t.Errorf("wants %v, attached %v: want both as before", r.want.interfaces, k.attached)
	}
	if missing := r.Missing(); missing != nil {
		t.Errorf("missing %v, want none: what was in force still is", missing)
	}
	if err := r.Prune(); err != nil {
		t.Error(err)
	}
	k.took()
	wantCalls(t, "nothing is left to do", r.mustUpdate(t, time.Time{}))

	delete(k.fail, "attach eth2")
	if err := r.Change(wanted("eth2", "eth1"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	wantCalls(t, "as told", k.took(), "attach eth2", "attach eth1")
	if err := r.Prune(); err != nil {
		t.Error(err)
	}
	wantCalls(t, "the one that is not wanted any more", k.took(), "detach eth0")
}

// TestChangeGoesRoundWhatIsBroken: what is missing, or was failing before, keeps no other from a change.
func TestChangeGoesRoundWhatIsBroken(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0", "broken")
	k.fail["attach broken"] = loader.ErrConflict
	r := newTestReconciler(k, "eth0", "broken", "missing")
	if err := r.Update(time.Time{}); !errors.Is(err, loader.ErrConflict) {
		t.Fatalf("update: %v, want a conflict", err)
	}
	k.took()
	if err := r.Change(wanted("eth0", "broken", "missing"), time.Time{}); err != nil {
		t.Fatalf("change: %v, want nil", err)
	}
	wantCalls(t, "first those that take part, then another try of the others", k.took(), "attach eth0", "attach broken", "attach missing")
	missing := r.Missing()
	if len(missing) != 2 || missing[0].Interface != "broken" || missing[0].Hook != "xdp" || !strings.Contains(missing[1].Reason, "no such interface") {
		t.Errorf("missing %v, want the broken and the missing one", missing)
	}
	delete(k.fail, "attach broken")
	if err := r.Change(wanted("eth0", "broken", "missing"), time.Time{}); err != nil || len(r.Missing()) != 1 {
		t.Errorf("change: %v, missing %v; want only the one that does not exist", err, r.Missing())
	}
}

// TestChangeWhileAnInterfaceVanishes: it existed when it was asked for, and did not when it was its turn.
func TestChangeWhileAnInterfaceVanishes(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0", "eth1")
	r := newTestReconciler(k)
	asked := 0
	exists := r.exists
	r.exists = func(name string) bool {
		if asked++; asked == 2 {
			defer delete(k.links, "eth1")
		}
		return exists(name)
	}
	if err := r.Change(wanted("eth0", "eth1"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if missing := r.Missing(); len(missing) != 1 || missing[0].Interface != "eth1" {
		t.Errorf("missing %v, want eth1", missing)
	}
	if len(k.attached) != 1 {
		t.Errorf("attached %v, want eth0", k.attached)
	}
}

// TestReconcilerKnowsHooks: each hook of an interface has a life of its own, and all come back with it.
func TestReconcilerKnowsHooks(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0")
	r := newTestReconciler(k, "eth0", "eth0/tc-egress")
	wantCalls(t, "both", r.mustUpdate(t, time.Time{}), "attach eth0", "attach eth0/tc-egress")

	delete(k.attached, point{"eth0", config.HookTCEgress}) // somebody took the filter off
	if err := r.Observe(); err != nil {
		t.Fatal(err)
	}
	if m := r.Missing(); len(m) != 1 || m[0].Hook != "tc-egress" {
		t.Errorf("missing %v, want the one hook", m)
	}
	wantCalls(t, "one is put back", r.mustUpdate(t, time.Time{}), "attach eth0/tc-egress")

	delete(k.links, "eth0")
	r.LinkChanged(linkChange{name: "eth0", index: 10, gone: true})
	if m := r.Missing(); len(m) != 2 {
		t.Errorf("missing %v, want both hooks", m)
	}
	k.links["eth0"] = 11
	if !r.LinkChanged(linkChange{name: "eth0", index: 11}) {
		t.Error("nothing to do when eth0 returns")
	}
	wantCalls(t, "both return", r.mustUpdate(t, time.Time{}), "attach eth0", "attach eth0/tc-egress")

	if err := r.Change(wanted("eth0/tc-egress"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Prune(); err != nil {
		t.Error(err)
	}
	wantCalls(t, "one hook is not wanted any more", k.took(), "attach eth0/tc-egress", "detach eth0")
	list, err := r.Attached()
	if err != nil || len(list) != 1 || list[0] != (config.Interface{Name: "eth0", Hook: config.HookTCEgress, Mode: config.AttachAuto}) {
		t.Errorf("attached %v, %v, want eth0 at tc-egress", list, err)
	}
}

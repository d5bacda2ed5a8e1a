package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
)

const testNamespace = 7

// fakeKernel has interfaces, which may be attached to, and fails when it is told to.
type fakeKernel struct {
	links    map[string]int // the index of each interface that exists
	attached map[point]loader.Attachment
	fail     map[string]error // by "attach eth0", "detach eth0", "list"
	calls    []string
}

var _ kernel = (*fakeKernel)(nil)

func newFakeKernel(names ...string) *fakeKernel {
	k := &fakeKernel{links: map[string]int{}, attached: map[point]loader.Attachment{}, fail: map[string]error{}}
	for i, name := range names {
		k.links[name] = 10 + i
	}
	return k
}

func (k *fakeKernel) call(name string) error {
	k.calls = append(k.calls, name)
	return k.fail[name]
}

// AttachAll fails before it has attached anything.
func (k *fakeKernel) AttachAll(all []loader.AttachOptions) ([]*loader.Attachment, error) {
	for _, o := range all {
		if err := k.call("attach " + testPoint(o).text()); err != nil {
			return nil, err
		}
		if k.links[o.Interface] == 0 {
			return nil, fmt.Errorf("%s: %w", o.Interface, loader.ErrNoInterface)
		}
	}
	var attached []*loader.Attachment
	for _, o := range all {
		a := loader.Attachment{
			Interface: o.Interface, Index: k.links[o.Interface], Namespace: testNamespace, Hook: o.Hook,
			State: loader.StateAttached, Mode: loader.ModeNative,
		}
		k.attached[testPoint(o)] = a
		attached = append(attached, &a)
	}
	return attached, nil
}

func (k *fakeKernel) Detach(p point) error {
	if err := k.call("detach " + p.text()); err != nil {
		return err
	}
	delete(k.attached, p)
	return nil
}

func testPoint(o loader.AttachOptions) point { return point{o.Interface, config.Hook(o.Hook)} }

// text is short for XDP, as most tests have no other hook.
func (p point) text() string {
	if p.hook == config.HookXDP {
		return p.name
	}
	return p.name + "/" + string(p.hook)
}

func (k *fakeKernel) Attachments() ([]loader.Attachment, error) {
	if err := k.fail["list"]; err != nil {
		return nil, err
	}
	var all []loader.Attachment
	for p, a := range k.attached {
		if a.Namespace == testNamespace && k.links[p.name] != a.Index {
			a.State, a.Index = loader.StateVanished, 0
		}
		all = append(all, a)
	}
	if all == nil {
		return nil, loader.ErrNothingAttached
	}
	slices.SortFunc(all, func(a, b loader.Attachment) int {
		return strings.Compare(a.Interface+string(a.Hook), b.Interface+string(b.Hook))
	})
	return all, nil
}

// took gives the calls since it was last asked.
func (k *fakeKernel) took() []string {
	calls := k.calls
	k.calls = nil
	return calls
}

func newTestReconciler(k *fakeKernel, names ...string) *reconciler {
	r := &reconciler{
		kernel: k, namespace: testNamespace, log: slog.New(slog.DiscardHandler),
		exists: func(name string) bool { return k.links[name] != 0 },
	}
	r.wishFor(wanted(names...))
	return r
}

// wishFor leaves all attaching to Update.
func (r *reconciler) wishFor(want desired) { r.adopt(want, nil, nil) }

// wanted are interfaces, each with a hook after a slash unless that is XDP.
func wanted(names ...string) desired {
	var want desired
	for _, name := range names {
		name, hook, _ := strings.Cut(name, "/")
		want.interfaces = append(want.interfaces, config.Interface{
			Name: name, Hook: cmp.Or(config.Hook(hook), config.HookXDP), Mode: config.AttachAuto,
		})
	}
	return want
}

// mustUpdate is Update without an error, and the calls that it made.
func (r *reconciler) mustUpdate(t *testing.T, now time.Time) []string {
	t.Helper()
	if err := r.Update(now); err != nil {
		t.Fatal(err)
	}
	return r.kernel.(*fakeKernel).took()
}

func wantCalls(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s: calls (-want +got):\n%s", what, diff)
	}
}

func TestReconcilerIsIdempotent(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0", "eth1")
	r := newTestReconciler(k, "eth0", "eth1")
	if got := len(r.Missing()); got != 2 {
		t.Errorf("%d missing before the first update, want 2", got)
	}
	var now time.Time
	wantCalls(t, "first", r.mustUpdate(t, now), "attach eth0", "attach eth1")
	wantCalls(t, "again", r.mustUpdate(t, now))
	if err := errors.Join(r.Observe(), r.Prune(), r.Update(now)); err != nil {
		t.Error(err)
	}
	wantCalls(t, "nothing to do", k.took())
	if missing := r.Missing(); missing != nil {
		t.Errorf("missing %v, want none", missing)
	}
	// A reload attaches to all anew, as the policies may have changed.
	if err := r.Change(wanted("eth0", "eth1"), now); err != nil {
		t.Error(err)
	}
	wantCalls(t, "reload", k.took(), "attach eth0", "attach eth1")
}

func TestReconcilerAttachesWhatAppears(t *testing.T) {
	t.Parallel()
	k := newFakeKernel()
	r := newTestReconciler(k, "eth0")
	var now time.Time
	wantCalls(t, "missing", r.mustUpdate(t, now), "attach eth0")
	if m := r.Missing(); len(m) != 1 || m[0].Interface != "eth0" || !strings.Contains(m[0].Reason, "no such interface") {
		t.Errorf("missing %v, want eth0", m)
	}
	wantCalls(t, "no delay for a missing one", r.mustUpdate(t, now), "attach eth0")

	k.links["eth0"] = 5
	if !r.LinkChanged(linkChange{name: "eth0", index: 5}) {
		t.Error("nothing to do when eth0 appears")
	}
	wantCalls(t, "appeared", r.mustUpdate(t, now), "attach eth0")
	for _, c := range []linkChange{{name: "eth0", index: 5}, {name: "other", index: 6}, {name: "other", index: 6, gone: true}} {
		if r.LinkChanged(c) {
			t.Errorf("%+v is to be dealt with, want not", c)
		}
	}
	if m := r.Missing(); m != nil {
		t.Errorf("missing %v, want none", m)
	}
}

func TestReconcilerNoticesLoss(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*fakeKernel, *reconciler) error{
		"gone, announced": func(k *fakeKernel, r *reconciler) error {
			delete(k.links, "eth0")
			r.LinkChanged(linkChange{name: "eth0", index: 10, gone: true})
			return nil
		},
		"gone, unnoticed":    func(k *fakeKernel, r *reconciler) error { delete(k.links, "eth0"); return r.Observe() },
		"another, unnoticed": func(k *fakeKernel, r *reconciler) error { k.links["eth0"] = 20; return r.Observe() },
		"detached by another": func(k *fakeKernel, r *reconciler) error {
			delete(k.attached, point{"eth0", config.HookXDP})
			return r.Observe()
		},
		"renamed": func(k *fakeKernel, r *reconciler) error {
			k.links = map[string]int{"wan0": 10}
			r.LinkChanged(linkChange{name: "wan0", index: 10})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newFakeKernel("eth0")
			r := newTestReconciler(k, "eth0")
			r.mustUpdate(t, time.Time{})
			if err := lose(k, r); err != nil {
				t.Fatal(err)
			}
			if m := r.Missing(); len(m) != 1 {
				t.Errorf("missing %v, want eth0", m)
			}
			k.links["eth0"] = 30
			wantCalls(t, "returned", r.mustUpdate(t, time.Time{}), "attach eth0")
			if m := r.Missing(); m != nil {
				t.Errorf("missing %v, want none", m)
			}
		})
	}
}

func TestReconcilerBacksOff(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0", "eth1")
	k.fail["attach eth0"] = unix.ENOMEM
	r := newTestReconciler(k, "eth0", "eth1")
	now := time.Unix(0, 0)
	if err := r.Update(now); !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("update: %v, want ENOMEM", err)
	}
	wantCalls(t, "one failure does not keep the other from its turn", k.took(), "attach eth0", "attach eth1")
	wait := resyncEvery
	for range 8 {
		wantCalls(t, "too early", r.mustUpdate(t, now.Add(wait-1)))
		now = now.Add(wait)
		if err := r.Update(now); !errors.Is(err, unix.ENOMEM) {
			t.Fatalf("update: %v, want ENOMEM", err)
		}
		wantCalls(t, "in time", k.took(), "attach eth0")
		wait = min(2*wait, maxRetryDelay)
	}
	// A change of the same interface does not cut the wait short; another interface does.
	r.LinkChanged(linkChange{name: "eth0", index: 10})
	wantCalls(t, "first announced", withoutError(r, now), "attach eth0")
	r.LinkChanged(linkChange{name: "eth0", index: 10})
	wantCalls(t, "same", withoutError(r, now))
	r.LinkChanged(linkChange{name: "eth0", index: 99})
	wantCalls(t, "another", withoutError(r, now), "attach eth0")
	delete(k.fail, "attach eth0")
	wantCalls(t, "mended", r.mustUpdate(t, now.Add(resyncEvery)), "attach eth0")
}

// withoutError is Update for its calls alone.
func withoutError(r *reconciler, now time.Time) []string {
	_ = r.Update(now)
	return r.kernel.(*fakeKernel).took()
}

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

func TestReconcilerPrunes(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0", "eth1", "eth2")
	r := newTestReconciler(k, "eth0", "eth1", "eth2")
	r.mustUpdate(t, time.Time{})
	k.attached[point{"far0", config.HookXDP}] = loader.Attachment{Interface: "far0", Hook: loader.HookXDP, Index: 3, Namespace: testNamespace + 1, State: loader.StateAttached}
	k.fail["detach eth0"] = unix.EIO
	r.wishFor(wanted("eth1"))
	if err := r.Prune(); !errors.Is(err, unix.EIO) {
		t.Errorf("prune: %v, want EIO", err)
	}
	wantCalls(t, "all that are not wanted, but those of other namespaces", k.took(), "detach eth0", "detach eth2")
	delete(k.fail, "detach eth0")
	if err := r.DetachAll(); err != nil {
		t.Error(err)
	}
	wantCalls(t, "all", k.took(), "detach eth0", "detach eth1")
	k.fail["list"] = unix.EIO
	if err := r.Prune(); !errors.Is(err, unix.EIO) {
		t.Errorf("prune that can't list: %v, want EIO", err)
	}
}

// The loader detaches by name in all namespaces: nobody's protection elsewhere may go with it.
func TestReconcilerDoesNotPruneElsewhere(t *testing.T) {
	t.Parallel()
	k := newFakeKernel("eth0")
	r := newTestReconciler(k, "eth0")
	r.mustUpdate(t, time.Time{})
	list := func() ([]loader.Attachment, error) {
		return []loader.Attachment{
			{Interface: "eth0", Hook: loader.HookXDP, Index: 10, Namespace: testNamespace, State: loader.StateAttached},
			{Interface: "eth0", Hook: loader.HookXDP, Index: 10, Namespace: testNamespace + 1, State: loader.StateAttached},
		}, nil
	}
	r.kernel = listing{k, list}
	if err := r.DetachAll(); err == nil || !strings.Contains(err.Error(), "another network namespace") {
		t.Errorf("detach: %v, want a refusal", err)
	}
	wantCalls(t, "refused", k.took())
}

// listing is a kernel with other attachments.
type listing struct {
	*fakeKernel
	list func() ([]loader.Attachment, error)
}

func (l listing) Attachments() ([]loader.Attachment, error) { return l.list() }

package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// limit bounds every test far above what it needs.
const limit = time.Minute

// testOptions are for a demo that ends only by being stopped, but for the part without weir, so that one can wait for its end. Its
// state directory is in one of the test's own, in which nothing may be left.
func testOptions(t *testing.T) (context.Context, Options) {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	dir := filepath.Join("/sys/fs/bpf", fmt.Sprintf("weir-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left behind: %v", err)
		}
	})
	return ctx, Options{Duration: MaxDuration, Before: 500 * time.Millisecond, PinDir: dir}
}

// attachedProgram is the program that the running demo has put on its gateway.
func attachedProgram(t *testing.T, o Options) ebpf.ProgramID {
	t.Helper()
	d, err := loader.Open(filepath.Join(o.PinDir, pinName()))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer d.Close()
	all, err := d.Attachments()
	if err != nil || len(all) != 1 {
		t.Errorf("%d attachments, %v, want 1", len(all), err)
		return 0
	}
	return ebpf.ProgramID(all[0].Program.ID)
}

// expectGone waits for the kernel, which frees a program some time after the last reference to it is given up.
func expectGone(ctx context.Context, t *testing.T, id ebpf.ProgramID) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("program %d is still loaded", id)
		}
	}
}

// In whatever part a demo is stopped, it says so and leaves nothing behind.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		name string
		when func(Progress) bool
	}{
		{"without-weir", func(p Progress) bool { return !p.Attached }},
		{"before-attaching", func(p Progress) bool { return p.Done }},
		{"with-weir", func(p Progress) bool { return p.Attached }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, o := testOptions(t)
			running, stop := context.WithCancel(ctx)
			defer stop()
			var program ebpf.ProgramID
			_, err := Run(running, o, func(p Progress) {
				if !c.when(p) {
					return
				}
				if p.Attached && program == 0 {
					program = attachedProgram(t, o)
				}
				stop()
			})
			if !errors.Is(err, ErrStopped) {
				t.Errorf("got %v, want %v", err, ErrStopped)
			}
			if program != 0 {
				expectGone(ctx, t, program)
			}
		})
	}
}

func TestStopBeforeTheStart(t *testing.T) {
	ctx, o := testOptions(t)
	ctx, stop := context.WithCancel(ctx)
	stop()
	_, err := Run(ctx, o, func(Progress) { t.Error("made progress") })
	if !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want %v", err, ErrStopped)
	}
}

// What a demo that was killed has left goes away at the next start, and a demo that runs is let alone.
func TestSweep(t *testing.T) {
	_, o := testOptions(t)
	killed := lockDir(t, filepath.Join(o.PinDir, pinPrefix+"1"))
	attachPair(t, killed)
	if err := killed.Close(); err != nil { // as the end of its process would
		t.Fatal(err)
	}
	running := lockDir(t, filepath.Join(o.PinDir, pinPrefix+"2"))
	other := lockDir(t, filepath.Join(o.PinDir, "weir"))
	if err := sweep(o.PinDir); err != nil {
		t.Fatal(err)
	}
	if left := names(t, o.PinDir); left != "weir weir-demo-2" {
		t.Errorf("left %s, want the running demo and what is none", left)
	}
	for _, d := range []*loader.StateDir{running, other} {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSweepWithoutABPFFS(t *testing.T) {
	if err := sweep(t.TempDir()); err != nil {
		t.Error(err)
	}
}

func lockDir(t *testing.T, path string) *loader.StateDir {
	t.Helper()
	d, err := loader.Lock(path, lockWait)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// attachPair attaches to an interface that is gone when it returns.
func attachPair(t *testing.T, d *loader.StateDir) {
	t.Helper()
	pair, err := lab.NewPair(t.Context(), lab.PairSpec{})
	if err != nil {
		t.Fatal(err)
	}
	err = pair.A.Do(func() error {
		_, err := d.Attach(loader.AttachOptions{
			Interface: pair.A.Interface, Mode: loader.ModeAuto,
			Policies: Policies(), TableEntries: tableEntries,
		})
		return err
	})
	if err := errors.Join(err, pair.Close()); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// The policies have to be such that weir would take them from a file.
func TestPoliciesAreValid(t *testing.T) {
	if faults := policy.ValidateSet(Policies()); faults != nil {
		t.Error(faults)
	}
}

package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
)

const (
	// limit bounds every wait far above what it needs on a busy machine.
	limit = 30 * time.Second
	// settle is how often an observable condition is looked at while it is waited for.
	settle = time.Millisecond
)

// rig is two hosts on a cable, weir's state directory, and what it takes to run weir on host B.
type rig struct {
	*testing.T
	*lab.Pair
	state string // the state directory, on a bpf file system
	dir   string // for configuration files, and the daemon's runtime directory
	// programs are the ids of weir's programs that were seen here; at the end all of them are gone.
	programs map[uint32]bool
}

var rigs atomic.Uint32

// newRig builds a rig, and at the end of the test holds that nothing of it is left.
func newRig(t *testing.T, spec lab.PairSpec) *rig {
	t.Helper()
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	return buildRig(t, spec)
}

// buildRig is newRig for a second one in a test.
func buildRig(t *testing.T, spec lab.PairSpec) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir(), programs: map[uint32]bool{}}
	r.state = newStateDir(t)
	pair, err := lab.NewPair(r.within(limit), spec)
	if err != nil {
		t.Fatal(err)
	}
	r.Pair = pair
	t.Cleanup(func() {
		if err := pair.Close(); err != nil {
			t.Error(err)
		}
		r.expectFreed()
	})
	t.Cleanup(r.detachAll)
	return r
}

// newStateDir names a state directory that nobody else has, and removes what a failed test leaves in it.
func newStateDir(t *testing.T) string {
	t.Helper()
	dir := fmt.Sprintf("/sys/fs/bpf/weir-test-%d-%d", os.Getpid(), rigs.Add(1))
	t.Cleanup(func() {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("state directory %s is left behind: %v", dir, list(dir))
			os.RemoveAll(dir)
		}
	})
	return dir
}

// list is everything below a directory.
func list(dir string) (all []string) {
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != dir {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return nil
	})
	return all
}

// within is a context for one wait.
func (r *rig) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), d)
	r.Cleanup(cancel)
	return ctx
}

// await polls until a condition holds.
func (r *rig) await(what string, holds func() bool) {
	r.Helper()
	await(r.T, what, holds)
}

func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(settle)
	defer look.Stop()
	deadline := time.After(limit)
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// result is what a command that ended has to say.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
}

// weir runs weir in host B's network namespace with this rig's directories.
func (r *rig) weir(args ...string) result {
	r.Helper()
	return r.exec(r.command(args...))
}

// mustWeir is weir, where it has to succeed.
func (r *rig) mustWeir(args ...string) result {
	r.Helper()
	res := r.weir(args...)
	if res.code != 0 {
		r.Fatalf("weir %v: %v", args, res)
	}
	return res
}

// failWeir is weir, where it has to fail and to say each of the words.
func (r *rig) failWeir(words []string, args ...string) {
	r.Helper()
	r.expectFailure(r.weir(args...), words...)
}

func (r *rig) expectFailure(res result, words ...string) {
	r.Helper()
	if res.code != 1 {
		r.Errorf("want exit code 1: %v", res)
	}
	for _, w := range words {
		if !strings.Contains(res.stderr, w) {
			r.Errorf("want %q in stderr: %v", w, res)
		}
	}
}

func (r *rig) command(args ...string) *exec.Cmd {
	return exec.Command(weirBinary, append([]string{"--bpffs", r.state, "--run-dir", filepath.Join(r.dir, "run")}, args...)...)
}

// exec runs a command in host B's network namespace to its end: a process is born into the namespace of the thread
// that starts it.
func (r *rig) exec(cmd *exec.Cmd) result {
	r.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := r.B.Do(cmd.Start); err != nil {
		r.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		r.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// attach enforces policies on host B's interface, with the command.
func (r *rig) attach(mode string, policies ...string) {
	r.Helper()
	r.mustWeir("attach", r.B.Interface, "-c", r.config(policies...), "--mode", mode)
	r.xdp()
}

// detachAll is for the end of a test, whatever it left attached.
func (r *rig) detachAll() {
	if _, err := os.Stat(r.state); errors.Is(err, os.ErrNotExist) {
		return
	}
	if res := r.weir("detach", "--all"); res.code != 0 {
		r.Errorf("detach --all: %v", res)
	}
}

// config writes a configuration file: a policy per argument, as the inside of a YAML flow mapping. Those without
// a name are called p0, p1, ...
func (r *rig) config(policies ...string) string {
	r.Helper()
	return r.configWith("", policies...)
}

// configWith is config with further top-level lines.
func (r *rig) configWith(top string, policies ...string) string {
	r.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\npolicies:\n", top)
	for i, p := range policies {
		if !strings.Contains(p, "name:") {
			p = fmt.Sprintf("name: p%d, %s", i, p)
		}
		fmt.Fprintf(&b, "  - {scope: per_ip, %s}\n", p)
	}
	f, err := os.CreateTemp(r.dir, "*.yaml")
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(b.String()); err != nil {
		r.Fatal(err)
	}
	return f.Name()
}

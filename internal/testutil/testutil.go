// Package testutil holds what the tests of several packages need: the privileges they run with, the kernel they run on, and
// the proof that they left nothing behind.
package testutil

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// RequireRoot fails the test, and never skips it, unless it runs as root: a test that quietly did not run is taken for
// one that passed.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root (run: sudo make test)")
	}
}

// SkipIfKernelBelow skips the test on a kernel older than major.minor. reason names what that kernel lacks.
func SkipIfKernelBelow(t testing.TB, major, minor int, reason string) {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatalf("read kernel version: %v", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	older, err := kernelBelow(release, major, minor)
	if err != nil {
		t.Fatal(err)
	}
	if older {
		t.Skipf("kernel %s is older than %d.%d: %s", release, major, minor, reason)
	}
}

func kernelBelow(release string, major, minor int) (bool, error) {
	var haveMajor, haveMinor int
	if _, err := fmt.Sscanf(release, "%d.%d", &haveMajor, &haveMinor); err != nil {
		return false, fmt.Errorf("parse kernel release %q: %w", release, err)
	}
	return haveMajor < major || haveMajor == major && haveMinor < minor, nil
}

// Main is the TestMain of a package whose tests must not leave a goroutine behind:
//
//	func TestMain(m *testing.M) { testutil.Main(m) }
func Main(m *testing.M) { goleak.VerifyTestMain(m) }

// NoLeaks fails the test if, at its end and after its other cleanups, the process has more goroutines or file descriptors than
// now. Call it first. Tests that use it cannot be parallel to any other of their package.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	warmPoller(t)
	files := OpenFiles(t)
	t.Cleanup(func() {
		if err := goleak.Find(before); err != nil {
			t.Errorf("left behind: %v", err)
		}
		if now := OpenFiles(t); len(now) > len(files) {
			t.Errorf("left behind %d file descriptors: before %v, now %v", len(now)-len(files), files, now)
		}
	})
}

// OpenFiles lists what each open file descriptor of this process refers to.
func OpenFiles(t testing.TB) map[string]string {
	t.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("list open files: %v", err)
	}
	files := make(map[string]string, len(entries))
	for _, e := range entries {
		if target, err := os.Readlink(dir + "/" + e.Name()); err == nil { // not the one that read the directory
			files[e.Name()] = target
		}
	}
	return files
}

// warmPoller makes the runtime open the descriptors of its poller, which it keeps, before anything is counted.
func warmPoller(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("create pipe: %v", err)
	}
	defer r.Close()
	defer w.Close()
	if err := r.SetReadDeadline(time.Now()); err != nil {
		t.Fatalf("set deadline on pipe: %v", err)
	}
}

package privilege

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestCheckNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	if err := check(kept()); err != nil {
		t.Errorf("check of all that is kept: %v", err)
	}
	err := check(kept() &^ (1 << unix.CAP_BPF))
	if err == nil || !strings.Contains(err.Error(), "CAP_BPF (to load programs") || strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("check without CAP_BPF: %v", err)
	}
}

func TestNeedsKeepNothingOfStartUp(t *testing.T) {
	t.Parallel()
	if kept()&(1<<unix.CAP_SYS_ADMIN) != 0 {
		t.Error("CAP_SYS_ADMIN is kept after start-up")
	}
	for _, n := range Needs() {
		if n.Name == "" || n.Why == "" || n.number == 0 {
			t.Errorf("need %+v is not complete", n)
		}
	}
}

// reducer makes the test binary a process that reduces itself and then prints what its threads have.
const reducer = "WEIR_TEST_REDUCE"

func TestMain(m *testing.M) {
	if os.Getenv(reducer) == "" {
		os.Exit(m.Run())
	}
	if err := reduceAndPrint(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// reduceAndPrint is the process that TestReduce starts.
func reduceAndPrint() error {
	if err := Reduce(); err != nil {
		return err
	}
	paths, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	for _, path := range paths {
		status, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // a thread that ended
		}
		if err != nil {
			return err
		}
		os.Stdout.Write(status)
	}
	return nil
}

func TestReduce(t *testing.T) {
	testutil.RequireRoot(t)
	binary := filepath.Join(t.TempDir(), "privilege.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the helper: %v\n%s", err, out)
	}
	helper := exec.CommandContext(t.Context(), binary)
	helper.Env = append(os.Environ(), reducer+"=1")
	out, err := helper.CombinedOutput()
	if err != nil {
		t.Fatalf("helper: %v\n%s", err, out)
	}
	const want = "000000c000001000" // CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN
	none := strings.Repeat("0", len(want))
	sets := map[string]string{
		"CapInh:": none, "CapPrm:": want, "CapEff:": want, "CapBnd:": want, "CapAmb:": none, "NoNewPrivs:": "1",
	}
	threads := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if want, ok := sets[f[0]]; ok && f[1] != want {
			t.Errorf("a thread has %s %s, want %s", f[0], f[1], want)
		}
		if f[0] == "CapEff:" {
			threads++
		}
	}
	if threads < 2 {
		t.Errorf("looked at %d threads, want several\n%s", threads, out)
	}
}

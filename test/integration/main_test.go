package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/internal/testutil"
)

// weirVariable tells the process in the namespaces which weir to start. Whoever has none is outside of them.
const weirVariable = "WEIR_INTEGRATION_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(weirVariable) != "" {
		testutil.Main(m)
		return
	}
	code, err := inNamespaces()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// inNamespaces runs this test binary again, in a network and a process namespace that end with it.
func inNamespaces() (code int, err error) {
	dir, err := os.MkdirTemp("", "weir-integration-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	weir, err := testutil.BuildWeir(dir)
	if err != nil {
		return 0, err
	}
	network, err := lab.NewNamespace()
	if err != nil {
		return 0, fmt.Errorf("%w (these tests need root: sudo make test)", err)
	}
	defer network.Close()
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), weirVariable+"="+weir)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := network.Do(self.Start); err != nil {
		return 0, fmt.Errorf("start the tests in namespaces: %w", err)
	}
	var failed *exec.ExitError
	if err := self.Wait(); errors.As(err, &failed) {
		return failed.ExitCode(), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil
}

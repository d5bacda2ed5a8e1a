package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// WeirVariable names the environment variable with the path of the weir to test, where there is no Go to build it with:
// in the virtual machines of make vm-test.
const WeirVariable = "WEIR_TEST_BINARY"

// BuildWeir builds weir into dir as it is shipped, from the tree that the tests run in, and returns its path.
func BuildWeir(dir string) (string, error) {
	if ready := os.Getenv(WeirVariable); ready != "" {
		return ready, nil
	}
	binary := filepath.Join(dir, "weir")
	build := exec.Command("go", "build", "-o", binary, "github.com/weir-limiter/weir/cmd/weir")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build weir: %w\n%s", err, out)
	}
	return binary, nil
}

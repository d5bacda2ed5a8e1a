package netns

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/weir-limiter/weir/internal/testutil"
)

// weirBinary is the weir that the tests drive, built from this tree.
var weirBinary string

func TestMain(m *testing.M) {
	dir, err := buildBinary()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func buildBinary() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "weir-netns-"); err != nil {
		return "", err
	}
	if weirBinary, err = testutil.BuildWeir(dir); err != nil {
		os.RemoveAll(dir)
		return "", err
	}
	return dir, nil
}

package nodes

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

// nodesMade numbers nodes, as rigs that run at the same time have hosts of the same names.
var nodesMade atomic.Int64

// programs is a directory for what all tests of this package build once.
var programs string

// weir is the daemon's binary.
var weir = sync.OnceValues(func() (string, error) { return testutil.BuildWeir(programs) })

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "weir-nodes-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(programs)
	return m.Run()
}

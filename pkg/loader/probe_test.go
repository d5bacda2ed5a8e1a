package loader

import (
	"errors"
	"os"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestProbes(t *testing.T) {
	testutil.RequireRoot(t)
	for name, probe := range map[string]func() error{
		"XDP": ProbeXDP, "mappable": ProbeMappable, "atomics": ProbeAtomics, "program": ProbeProgram,
	} {
		// 5.15, the oldest kernel that weir supports, has all of it.
		if err := probe(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ProbeJIT(); err != nil {
		t.Errorf("JIT: %v", err)
	}
}

func TestProbeMultiBuffer(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.SkipIfKernelBelow(t, 5, 18, "no multi-buffer XDP")
	if err := ProbeMultiBuffer(); err != nil {
		t.Error(err)
	}
}

func TestLocate(t *testing.T) {
	testutil.RequireRoot(t)
	const path = bpffsMount + "/weir-test-not-there/below"
	if got, err := Locate(path); got != path || err != nil {
		t.Errorf("Locate(%s) = %s, %v", path, got, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Locate made %s: %v", path, err)
	}
	if _, err := Locate(t.TempDir()); !errors.Is(err, ErrNoBPFFS) {
		t.Errorf("Locate on an ordinary file system: %v", err)
	}
}

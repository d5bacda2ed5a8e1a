package loader

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestProbes(t *testing.T) {
	testutil.RequireRoot(t)
	for name, probe := range map[string]func() error{
		"XDP": ProbeXDP, "mappable": ProbeMappable, "atomics": ProbeAtomics, "program": ProbeProgram,
		"XDP link": ProbeXDPLink, "TC": ProbeTC, "ring buffer": ProbeRingBuffer, "trie": ProbeTrie,
		"per-CPU array": ProbePerCPUArray, "coarse clock": ProbeCoarseClock,
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

func TestProbePacing(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.SkipIfKernelBelow(t, 5, 18, "no bpf_skb_set_tstamp")
	if err := ProbePacing(); err != nil {
		t.Error(err)
	}
}

func TestProbeTCX(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.SkipIfKernelBelow(t, 6, 6, "no tcx")
	if err := ProbeTCX(); err != nil {
		t.Error(err)
	}
}

// TestProbesFindLinksMissing: what a kernel answers that has no such links is "not supported".
func TestProbesFindLinksMissing(t *testing.T) {
	testutil.RequireRoot(t)
	refuse := func(err error) func(*ebpf.Program) (link.Link, error) {
		return func(*ebpf.Program) (link.Link, error) { return nil, err }
	}
	if err := probeLink(ebpf.XDP, refuse(unix.EINVAL)); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Errorf("EINVAL: %v, want %v", err, ebpf.ErrNotSupported)
	}
	if err := probeLink(ebpf.XDP, refuse(ebpf.ErrNotSupported)); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Errorf("%v: %v, want it as it is", ebpf.ErrNotSupported, err)
	}
	if err := probeLink(ebpf.XDP, refuse(unix.EPERM)); !errors.Is(err, unix.EPERM) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Errorf("EPERM: %v, want it as it is", err)
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

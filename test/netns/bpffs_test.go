package netns

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-limiter/weir/internal/lab"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestAStateDirectoryNotOnABPFFileSystemIsRefused(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	dir := filepath.Join(r.dir, "x", "weir")
	config := r.config("limit: 10, window: 1s")
	for _, args := range [][]string{{"attach", "eth0", "-c", config}, {"run", "-c", config}, {"detach", "--all"}, {"status"}} {
		r.failWeir([]string{dir, "not on a bpf file system", "mount -t bpf"}, append(args, "--bpffs", dir)...)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Error("a directory was made on the way")
	}
	r.expectInterfaceFree()
}

// isolated is a shell on host B with mounts of its own; script sees weir with the rig's directories as "$@".
func (r *rig) isolated(script string, pids bool) *exec.Cmd {
	weir := r.command()
	cmd := exec.Command("sh", append([]string{"-ec", script, "sh"}, weir.Args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if pids {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	}
	return cmd
}

// In mounts of its own, where /sys/fs/bpf is not mounted or /sys is another one as under "ip netns exec", weir pins where
// its caller sees it: what is attached outlives the mounts.
func TestPinsOutliveAPrivateMountNamespace(t *testing.T) {
	for name, hide := range map[string]string{
		"umount /sys/fs/bpf": "umount /sys/fs/bpf",
		"ip netns exec":      "umount -l /sys; mount -t sysfs weir /sys",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab.PairSpec{})
			config := r.config("limit: 1, window: 1h, burst: 10")
			res := r.exec(r.isolated(hide+`; "$@" attach eth0 -c `+config+`; exec "$@" status -o json`, false))
			if res.code != 0 || !strings.Contains(res.stdout, `"state": "attached"`) {
				t.Fatalf("inside: %v", res)
			}
			sniffer := r.sniff()
			r.flood(lab.Load{Rate: 10_000, Count: 100}, r.frame(r.A.IPv4, nil))
			r.arrivals(sniffer, 10)
			if a := r.attached(); a.State != "attached" || a.Program.ID != r.xdp() {
				t.Errorf("status outside shows %+v, on the interface is program %d", a, r.xdp())
			}
			// Detach from inside another such namespace.
			if res := r.exec(r.isolated(hide+`; exec "$@" detach eth0`, false)); res.code != 0 {
				t.Errorf("detach inside: %v", res)
			}
			r.expectInterfaceFree()
		})
	}
}

// Where nobody has mounted a bpf file system, weir mounts one at the usual place. The namespace of process ids hides
// from weir that the test has one.
func TestTheFileSystemIsMountedIfNobodyDid(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	config := r.config("limit: 1, window: 1h, burst: 10")
	res := r.exec(r.isolated(`mount -t proc proc /proc; umount /sys/fs/bpf
		"$@" status -o json
		"$@" attach eth0 -c `+config+`
		test -e `+r.state+`/table
		"$@" status -o json
		stat -f -c %T /sys/fs/bpf`, true))
	if res.code != 0 || !strings.Contains(res.stdout, `"state": "attached"`) || !strings.Contains(res.stdout, "bpf_fs") {
		t.Fatalf("inside: %v", res)
	}
	if left := list(r.state); left != nil {
		t.Errorf("pinned outside: %v", left)
	}
	// The mount ended with the shell, and with it what was pinned.
	r.await("the interface is free", func() bool { return r.xdp() == 0 })
}

// What a killed load left is no obstacle: the next attach clears it away.
func TestAnInterruptedLoadIsClearedAway(t *testing.T) {
	r := newRig(t, lab.PairSpec{})
	if err := os.MkdirAll(filepath.Join(r.state, "loading"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.attach("native", "limit: 1, window: 1h, burst: 10")
	r.flood(lab.Load{Rate: 10_000, Count: 100}, r.frame(r.A.IPv4, nil))
	r.expectCounts("p0", map[policy.Verdict]uint64{policy.VerdictPass: 10, policy.VerdictDrop: 90})
	r.expectOneSet()
}

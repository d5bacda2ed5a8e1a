package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/loader"
)

const mendPrivileges = "run weir as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN"

func probeLinux(m *machine) finding {
	const mend = "boot a kernel from 5.15 on"
	var major, minor int
	if _, err := fmt.Sscanf(m.release, "%d.%d", &major, &minor); err != nil {
		return warning(mend, "a kernel whose release can't be read: %q", m.release)
	}
	if major < 5 || major == 5 && minor < 15 {
		return failure(mend, "%s, which is older than 5.15", m.release)
	}
	return good("%s", m.release)
}

// capability is a bit of the sets in /proc/PID/status.
type capability struct {
	name string
	bit  uint
	use  string // what is missed without it
}

func capabilities() []capability {
	return []capability{
		{"CAP_BPF", unix.CAP_BPF, "no program can be loaded"},
		{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, "no program can be attached"},
		{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN, "others' programs have an id, but no name, and no bpf file system can be mounted"},
	}
}

func (c capability) in(set uint64) bool { return set>>c.bit&1 == 1 }

func probePrivileges(m *machine) finding {
	status, err := m.readFile("/proc/self/status")
	if err != nil {
		return warning("mount /proc", "not known: %v", err)
	}
	set, err := effectiveCapabilities(string(status))
	if err != nil {
		return warning("", "not known: %v", err)
	}
	var have, lost []string
	enough := true
	for _, c := range capabilities() {
		if c.in(set) {
			have = append(have, c.name)
			continue
		}
		lost = append(lost, fmt.Sprintf("no %s: %s", c.name, c.use))
		enough = enough && c.bit == unix.CAP_SYS_ADMIN
	}
	who := fmt.Sprintf("uid %d", m.uid)
	switch {
	case !enough:
		return failure(mendPrivileges, "%s, %s", who, strings.Join(lost, "; "))
	case m.inUserNamespace():
		return failure("run weir outside the container's user namespace", "%s, but of a user namespace, whose root can't load programs", who)
	case lost != nil:
		return warning(mendPrivileges, "%s, %s", who, strings.Join(lost, "; "))
	}
	return good("%s, %s", who, strings.Join(have, ", "))
}

func effectiveCapabilities(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, errors.New("/proc/self/status has no CapEff")
}

// inUserNamespace goes by the map of user ids: only the first namespace has all of them as they are.
func (m *machine) inUserNamespace() bool {
	ids, err := m.readFile("/proc/self/uid_map")
	if err != nil {
		return false // a kernel without user namespaces
	}
	f := strings.Fields(string(ids))
	return len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295"
}

func probeBPFFS(m *machine) finding {
	found, err := loader.Locate(m.stateDir)
	switch {
	case err == nil && found == m.stateDir:
		return good("%s is on one", m.stateDir)
	case err == nil:
		return good("%s is on one outside this mount namespace: %s", m.stateDir, found)
	}
	// Whoever may not look into a directory can't tell what it is on.
	if _, statErr := os.Stat(m.stateDir); errors.Is(statErr, os.ErrPermission) {
		return unknown(statErr)
	}
	if strings.HasPrefix(m.stateDir, "/sys/fs/bpf/") {
		return warning("weir attach mounts one; or run: mount -t bpf bpf /sys/fs/bpf", "not mounted")
	}
	return failure("mount one above it, or leave out --bpffs", "%v", err)
}

// unknown is what a probe says that could not ask.
func unknown(err error) finding {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EPERM) {
		return warning("", "not known: this process may not ask (see privileges)")
	}
	return warning("run weir doctor --debug as root", "not known: %v", err)
}

// unlessDenied is f, unless err says no more than that the question was not allowed.
func unlessDenied(err error, f finding) finding {
	if errors.Is(err, os.ErrPermission) {
		return unknown(err)
	}
	return f
}

// feature judges a probe of pkg/loader.
func feature(err error, have string, missing finding) finding {
	switch {
	case err == nil:
		return good("%s", have)
	case errors.Is(err, ebpf.ErrNotSupported):
		return missing
	}
	return unknown(err)
}

func probeXDP(*machine) finding {
	return feature(loader.ProbeXDP(), "the kernel runs XDP programs",
		failure("boot a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET", "the kernel runs no XDP programs"))
}

func probeMappable(*machine) finding {
	return feature(loader.ProbeMappable(), "user space can map the table of buckets",
		failure("boot a kernel from 5.15 on", "the kernel has no arrays that can be mapped, which came with 5.5"))
}

func probeAtomics(*machine) finding {
	return feature(loader.ProbeAtomics(), "programs can compare and swap",
		failure("boot a kernel from 5.15 on; on an architecture without it, switch the JIT on",
			"programs can't compare and swap, which came with 5.12"))
}

func probeProgram(*machine) finding {
	err := loader.ProbeProgram()
	if err == nil {
		return good("the kernel's verifier accepts weir's program")
	}
	return unlessDenied(err, failure("please report this, with what weir attach --debug prints", "weir's program does not load: %v", err))
}

func probeJIT(*machine) finding {
	compiles, err := loader.ProbeJIT()
	switch {
	case err != nil:
		return unknown(err)
	case !compiles:
		return warning("sysctl net.core.bpf_jit_enable=1", "the kernel interprets programs, which is several times slower")
	}
	return good("the kernel compiles programs")
}

func probeMultiBuffer(*machine) finding {
	return feature(loader.ProbeMultiBuffer(), "packets may span several buffers (jumbo frames in native mode)",
		warning("boot a kernel from 5.18 on", "no packets of several buffers: native mode refuses a large MTU"))
}

func probeBTF(m *machine) finding {
	const path = "/sys/kernel/btf/vmlinux"
	switch _, err := os.Stat(path); {
	case err == nil:
		return good("%s is there (weir itself does without)", path)
	case errors.Is(err, os.ErrNotExist):
		return good("the kernel has none; weir does without")
	default:
		return unknown(err)
	}
}

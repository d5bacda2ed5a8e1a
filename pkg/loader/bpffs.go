package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultStateDir is where weir pins, unless told otherwise.
const DefaultStateDir = "/sys/fs/bpf/weir"

const bpffsMount = "/sys/fs/bpf"

// ErrNoBPFFS says that a state directory is not on a bpf file system.
var ErrNoBPFFS = errors.New("not on a bpf file system")

// onBPFFS tells whether path, or the nearest directory above it that exists, is on a bpf file system.
// A path that may not be looked at is an error, and not elsewhere.
func onBPFFS(path string) (bool, error) {
	for {
		var fs unix.Statfs_t
		err := unix.Statfs(path, &fs)
		if err == nil {
			return fs.Type == unix.BPF_FS_MAGIC, nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, unix.ENOENT) || parent == path {
			return false, fmt.Errorf("look at %s: %w (needs root)", path, err)
		}
		path = parent
	}
}

// locate finds path on a bpf file system. "ip netns exec" gives its command a mount namespace of its
// own with a fresh /sys, where nothing is mounted, and where a mount would vanish when the command
// ends, with all that is pinned. There the bpf file system of whoever called the command serves.
func locate(path string) (string, error) {
	if found, err := onBPFFS(path); found || err != nil {
		return path, err
	}
	for _, pid := range foreignAncestors() {
		outer := filepath.Join("/proc", pid, "root", path)
		if found, err := onBPFFS(outer); found && err == nil {
			return outer, nil
		}
	}
	return "", fmt.Errorf("%s: %w (run: mount -t bpf bpf %s)", path, ErrNoBPFFS, mountPoint(path))
}

func mountPoint(path string) string {
	if below(bpffsMount, path) {
		return bpffsMount
	}
	return path
}

func below(dir, path string) bool {
	return strings.HasPrefix(filepath.Clean(path)+"/", dir+"/")
}

// foreignAncestors lists the processes that this one descends from, nearest first, which have other
// mounts than it. It ends at the first whose mounts may not be looked at; should that be soon, because
// the caller has ended and process 1 is out of reach, the kernel's own threads still have the
// machine's first mounts.
func foreignAncestors() []string {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil
	}
	var found []string
	add := func(pid string) bool {
		mounts, err := os.Readlink(filepath.Join("/proc", pid, "ns/mnt"))
		if err == nil && mounts != own {
			found = append(found, pid)
		}
		return err == nil
	}
	for pid := os.Getppid(); pid > 0 && add(strconv.Itoa(pid)); {
		if pid, err = parent(filepath.Join("/proc", strconv.Itoa(pid))); err != nil {
			break
		}
	}
	const kthreadd = "2" // in a container that is some process, if there is one
	if name, err := os.ReadFile("/proc/" + kthreadd + "/comm"); err == nil && string(name) == "kthreadd\n" {
		add(kthreadd)
	}
	return found
}

// parent reads the parent's id from a process' directory in /proc.
func parent(dir string) (int, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may have any character in it.
	var state string
	var ppid int
	_, err = fmt.Sscan(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), &state, &ppid)
	return ppid, err
}

// locateOrMount is locate, but mounts a bpf file system at its usual place if path is below that:
// many machines have it mounted by systemd, and some by nobody.
func locateOrMount(path string) (string, error) {
	found, err := locate(path)
	if err == nil || !below(bpffsMount, path) {
		return found, err
	}
	if err := mountBPFFS(); err != nil {
		return "", fmt.Errorf("mount a bpf file system at %s: %w (needs CAP_SYS_ADMIN; or run: mount -t bpf bpf %s)",
			bpffsMount, err, bpffsMount)
	}
	return locate(path)
}

// mountBPFFS mounts where it lasts: with the outermost process that this one descends from.
func mountBPFFS() error {
	ancestors := foreignAncestors()
	if len(ancestors) == 0 {
		return unix.Mount("bpf", bpffsMount, "bpf", 0, "mode=0700")
	}
	result := make(chan error)
	go func() {
		// Never unlocked: the thread is in another mount namespace now, and ends with the goroutine.
		runtime.LockOSThread()
		result <- mountBeside(ancestors[len(ancestors)-1])
	}()
	return <-result
}

func mountBeside(pid string) error {
	ns, err := os.Open(filepath.Join("/proc", pid, "ns/mnt"))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the root directory: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the mounts of process %s: %w", pid, err)
	}
	return unix.Mount("bpf", bpffsMount, "bpf", 0, "mode=0700")
}

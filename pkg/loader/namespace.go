package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// errNoNamespace says that nobody holds a network namespace any more, so that its interfaces are gone.
var errNoNamespace = errors.New("no such network namespace")

// netlinkIn opens netlink in a network namespace, by its inode: this thread's own, or whichever process or
// mount holds. Only filters need it: the kernel finds a link's interface by itself.
func netlinkIn(inode uint64) (*netlink.Handle, error) {
	here, err := netNamespace()
	if err != nil {
		return nil, err
	}
	if here == inode {
		return netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	ns, err := openNamespace(inode)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("enter network namespace %d: %w (needs CAP_SYS_ADMIN)", inode, err)
	}
	return handle, nil
}

// openNamespace looks where a network namespace can be held: by a process that is in it, by a mount as
// "ip netns" makes it, and by a descriptor.
func openNamespace(inode uint64) (*os.File, error) {
	want := fmt.Sprintf("net:[%d]", inode)
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/run/netns/*", "/run/docker/netns/*", "/proc/[0-9]*/fd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			// Looking at a descriptor's name costs less than opening what is behind it, and waits for nobody.
			if target, err := os.Readlink(path); err == nil && target != want {
				continue
			}
			if f := openIfNamespace(path, inode); f != nil {
				return f, nil
			}
		}
	}
	return nil, fmt.Errorf("%d: %w", inode, errNoNamespace)
}

func openIfNamespace(path string, inode uint64) *os.File {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Stat(path, &st) != nil || st.Ino != inode || unix.Statfs(path, &fs) != nil || fs.Type != unix.NSFS_MAGIC {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	return f
}

package loader

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoInterface says that there is no interface of that name in this network namespace.
var ErrNoInterface = errors.New("no such interface")

// ErrNotEthernet says that an interface's packets have no Ethernet header.
var ErrNotEthernet = errors.New("not an Ethernet interface")

func findInterface(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("%s: %w in this network namespace (ip link lists them)", name, ErrNoInterface)
	}
	if err != nil {
		return nil, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return l, nil
}

// checkEthernet refuses an interface whose packets have no Ethernet header (tun, WireGuard): the
// parser would take addresses for an EtherType, and let nearly everything pass.
func checkEthernet(iface netlink.Link) error {
	switch kind := iface.Attrs().EncapType; kind {
	case "ether", "loopback":
		return nil
	default:
		return fmt.Errorf("%s: %w: its packets are of type %q (attach to the Ethernet interface that carries them)",
			iface.Attrs().Name, ErrNotEthernet, kind)
	}
}

// describeProgram names a program for an error message. To open one by its id takes CAP_SYS_ADMIN;
// without, the id has to do.
func describeProgram(id uint32) string {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return fmt.Sprintf("program %d", id)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Sprintf("program %d", id)
	}
	return fmt.Sprintf("program %d (%s, tag %s)", id, info.Name, info.Tag)
}

// netNamespace is the inode of this thread's network namespace.
func netNamespace() (uint64, error) {
	const path = "/proc/thread-self/ns/net"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("find out the network namespace: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	return st.Ino, nil
}

// attachmentID is what a pinned attachment is named by.
type attachmentID struct {
	hook      Hook
	iface     string
	namespace uint64 // two of them may have an interface of the same name
}

// A bpf file system has no names with a dot, and an interface may have one.
var (
	escapeName   = strings.NewReplacer("%", "%25", ".", "%2e", "@", "%40")
	unescapeName = strings.NewReplacer("%25", "%", "%2e", ".", "%40", "@")
)

func (a attachmentID) String() string {
	return fmt.Sprintf("%s:%s@%d", a.hook, escapeName.Replace(a.iface), a.namespace)
}

// parseAttachmentID is the inverse of String; false for other names in a state directory.
func parseAttachmentID(name string) (attachmentID, bool) {
	hook, rest, ok1 := strings.Cut(name, ":")
	iface, namespace, ok2 := strings.Cut(rest, "@")
	inode, err := strconv.ParseUint(namespace, 10, 64)
	return attachmentID{Hook(hook), unescapeName.Replace(iface), inode}, ok1 && ok2 && err == nil
}

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setting is one sysctl: a path below /proc/sys and the value to write.
type setting struct{ path, value string }

// quietHost makes a namespace forget what it inherited from the machine, and say nothing that nobody asked for.
// It comes before any interface is made, because "default" is copied into each interface at its birth.
var quietHost = []setting{
	{"net/ipv4/conf/all/rp_filter", "0"}, // spoofed sources must arrive; the larger of all and the interface's counts
	{"net/ipv4/conf/default/rp_filter", "0"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/default/send_redirects", "0"},
	{"net/ipv6/conf/all/disable_ipv6", "0"},
	{"net/ipv6/conf/default/disable_ipv6", "0"},
	{"net/ipv6/conf/default/accept_dad", "0"},
	{"net/ipv6/conf/default/accept_ra", "0"},
	{"net/ipv6/conf/default/router_solicitations", "0"},
	{"net/ipv6/conf/default/addr_gen_mode", "1"}, // none: no link-local address, hence no listener reports for it
	{"net/ipv6/conf/default/keep_addr_on_down", "1"},
}

// forwardingHost makes a namespace a router.
var forwardingHost = []setting{
	{"net/ipv4/ip_forward", "1"},
	{"net/ipv6/conf/all/forwarding", "1"},
}

// writeSettings applies the settings to the namespace: /proc/sys/net shows the namespace of the thread that opens it.
func (n *Namespace) writeSettings(settings []setting) error {
	return n.Do(func() error {
		for _, s := range settings {
			err := os.WriteFile("/proc/sys/"+s.path, []byte(s.value), 0)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set sysctl %s: %w (kernel started with ipv6.disable=1?)", s.path, err)
			}
			if err != nil {
				return fmt.Errorf("set sysctl %s=%s: %w", s.path, s.value, mend(err))
			}
		}
		return nil
	})
}

// netlink runs fn with a routing socket of the namespace.
func (n *Namespace) netlink(fn func(*netlink.Handle) error) error {
	return n.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		defer h.Close()
		return fn(h)
	})
}

func (n *Namespace) bringUp() error {
	if err := n.writeSettings(quietHost); err != nil {
		return err
	}
	return n.netlink(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find loopback: %w", err)
		}
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set loopback up: %w", mend(err))
		}
		return nil
	})
}

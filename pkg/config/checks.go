package config

import (
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/weir-limiter/weir/internal/yamlfile"
	"github.com/weir-limiter/weir/pkg/policy"
)

// interfaces reads the list of interfaces and refuses to attach twice.
func interfaces(to *[]Interface) into {
	return func(d *decoder, c cursor) {
		list(to, (*Interface).into)(d, c)
		first := map[Interface]int{}
		for i, iface := range *to {
			path := fmt.Sprintf("%s[%d]", c.path, i)
			if iface.Name == "" {
				continue // reported already
			}
			key := Interface{Name: iface.Name, Hook: iface.Hook}
			j, taken := first[key]
			if !taken {
				first[key] = i
				d.chargedTwice(c.path, i, first, iface)
				continue
			}
			line := d.position(fmt.Sprintf("%s[%d].name", c.path, j)).line
			d.failAt(d.position(path+".name"), path+".name",
				fmt.Sprintf("hook %s of %q is already listed on line %d", iface.Hook, iface.Name, line), "remove one of the two")
		}
	}
}

// chargedTwice refuses both hooks on the way in: what xdp lets through comes to tc-ingress, and would pay
// there again, so that a source got half of its limit. Nobody can mean that, and a file can't say what
// else is meant.
func (d *decoder) chargedTwice(list string, i int, first map[Interface]int, iface Interface) {
	other := map[Hook]Hook{HookXDP: HookTCIngress, HookTCIngress: HookXDP}[iface.Hook]
	j, listed := first[Interface{Name: iface.Name, Hook: other}]
	if !listed {
		return
	}
	path := fmt.Sprintf("%s[%d].hook", list, i)
	line := d.position(fmt.Sprintf("%s[%d].name", list, j)).line
	d.failAt(d.position(path), path, fmt.Sprintf("%q has hook %s on line %d: every packet that comes in would be charged at both", iface.Name, other, line),
		"keep xdp, or tc-ingress where the driver or another program does not let xdp in")
}

func (i *Interface) into() into {
	i.Hook, i.Mode = HookXDP, AttachAuto
	return func(d *decoder, c cursor) {
		mapping(
			field{name: "name", to: interfaceName(&i.Name), example: "name: eth0"},
			field{name: "hook", to: enum(&i.Hook, Hooks())},
			field{name: "mode", to: enum(&i.Mode, AttachModes())},
		)(d, c)
		mode := c.path + ".mode"
		if i.Hook != HookXDP && i.Mode != AttachAuto && !d.unreadable(mode) {
			d.failAt(d.position(mode), mode, fmt.Sprintf("hook %s has no mode %s", i.Hook, i.Mode), `remove mode or set "hook: xdp"`)
		}
	}
}

func interfaceName(to *string) into {
	return func(d *decoder, c cursor) {
		text(to)(d, c)
		if d.unreadable(c.path) || policy.ValidInterfaceName(*to) {
			return
		}
		d.fail(c, policy.Quote(*to)+" cannot be the name of a network interface", `use 1 to 15 bytes without "/", ":" and blanks`)
		*to = ""
	}
}

// entries reads the size of the bucket table. The hash takes its low bits, so
// only powers of two will do.
func entries(to *uint32) into {
	return scalar(to, "a whole number", func(n *yaml.Node) (uint32, *complaint) {
		v, bad := parseWhole(n, MaxEntries)
		switch {
		case bad != nil:
			return 0, bad
		case v < MinEntries:
			return 0, &complaint{fmt.Sprintf("%d is too small", v), fmt.Sprintf("write at least %d", MinEntries)}
		case bits.OnesCount64(v) != 1:
			return 0, &complaint{fmt.Sprintf("%d is not a power of two", v), fmt.Sprintf("the nearest is %d", nearestPower(v))}
		}
		return uint32(v), nil
	})
}

// nearestPower returns the power of two nearest to v, the lower one of a tie.
func nearestPower(v uint64) uint64 {
	low := uint64(1) << (bits.Len64(v) - 1)
	if v-low <= 2*low-v {
		return low
	}
	return 2 * low
}

// address reads a host:port to listen on, or an empty text for none.
func address(to *string) into {
	return scalar(to, "an address", func(n *yaml.Node) (string, *complaint) {
		if n.Value != "" && !validAddress(n.Value) {
			return "", &complaint{"want an address as HOST:PORT, got " + yamlfile.Describe(n),
				`write it such as 127.0.0.1:8080 or [::1]:8080, or "" for none`}
		}
		return n.Value, nil
	})
}

func validAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	return validHost(host)
}

// validHost accepts host names. One that looks like an address but is none, such as
// 127.0.0.256, is a slip and not a name: no top-level domain starts with a digit.
func validHost(host string) bool {
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(host) <= 253 && (last[0] < '0' || last[0] > '9')
}

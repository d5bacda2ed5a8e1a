package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/loader"
)

// examineLinks looks at the interfaces that are named, or at all that weir could be meant for. What
// is wrong with one of those is at most a warning: nobody said that it is to be used.
func (m *machine) examineLinks(names []string) []finding {
	if len(names) == 0 {
		return m.examineAllLinks()
	}
	var all []finding
	for _, name := range names {
		l, err := netlink.LinkByName(name)
		var f finding
		switch {
		case errors.As(err, &netlink.LinkNotFoundError{}):
			f = failure("ip link lists them", "there is no such interface in this network namespace")
		case err != nil:
			f = unknown(err)
		default:
			f = m.examineLink(l)
		}
		f.Check, f.Interface = "interface", name
		all = append(all, f)
	}
	return all
}

func (m *machine) examineAllLinks() []finding {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		f := unknown(err)
		f.Check = "interface"
		return []finding{f}
	}
	var all []finding
	for _, l := range links {
		a := l.Attrs()
		if a.RawFlags&unix.IFF_LOOPBACK != 0 || a.RawFlags&unix.IFF_UP == 0 || !isEthernet(l) {
			continue
		}
		f := m.examineLink(l)
		if f.Grade == gradeFail {
			f.Grade = gradeWarn
		}
		f.Check, f.Interface = "interface", a.Name
		all = append(all, f)
	}
	return all
}

// examineLink joins what the single questions found: the worst grade, and all the mends.
func (m *machine) examineLink(l netlink.Link) finding {
	whole := finding{Grade: gradeOK}
	var found, mends []string
	for _, ask := range []func(netlink.Link) finding{linkUp, linkType, linkDriver, linkNative, linkQueues, linkOffloads, m.linkPacing, m.linkProgram} {
		f := ask(l)
		found = append(found, f.Found)
		if f.Mend != "" {
			mends = append(mends, f.Mend)
		}
		if severity(f.Grade) > severity(whole.Grade) {
			whole.Grade = f.Grade
		}
	}
	whole.Found, whole.Mend = strings.Join(found, ", "), strings.Join(mends, "; ")
	return whole
}

func severity(g grade) int { return slices.Index([]grade{gradeOK, gradeWarn, gradeFail}, g) }

func linkUp(l netlink.Link) finding {
	if l.Attrs().RawFlags&unix.IFF_UP == 0 {
		return warning(fmt.Sprintf("ip link set dev %s up", l.Attrs().Name), "down")
	}
	return good("up")
}

func isEthernet(l netlink.Link) bool { return l.Attrs().EncapType == "ether" }

func linkType(l netlink.Link) finding {
	// On the loopback interface there are Ethernet headers as well.
	if isEthernet(l) || l.Attrs().RawFlags&unix.IFF_LOOPBACK != 0 {
		return good("Ethernet")
	}
	return failure("choose the interface below it", "its frames are %q, of which weir understands only Ethernet", l.Attrs().EncapType)
}

// linkProgram tells whose XDP program is on the interface. weir takes nobody's place.
func (m *machine) linkProgram(l netlink.Link) finding {
	xdp := l.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return good("no XDP program")
	}
	if slices.ContainsFunc(m.attachments, func(a loader.Attachment) bool { return a.Program.ID == xdp.ProgId }) {
		return good("weir's program %d", xdp.ProgId)
	}
	return failure(fmt.Sprintf("remove it (ip link set dev %s xdp off, or the tool that put it there)", l.Attrs().Name),
		"somebody else's XDP program %s", programText(xdp.ProgId))
}

// programText names a program as far as it may be looked at, which takes CAP_SYS_ADMIN.
func programText(id uint32) string {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return fmt.Sprint(id)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Sprint(id)
	}
	return fmt.Sprintf("%d (%s, tag %s)", id, info.Name, info.Tag)
}

package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// paceHorizon is how long a policy that paces holds a packet at most: CHARGE_PACE_MAX of bpf/lib/charge.h.
const paceHorizon = 2 * time.Second

// fqFlowLimit is how many packets of a flow the fq queueing discipline holds, if nobody says otherwise.
const fqFlowLimit = 100

// pacingOf are the policies that pace.
func pacingOf(policies []loader.LoadedPolicy) (pacing []policy.Policy) {
	for _, p := range policies {
		if p.Action == policy.ActionPace {
			pacing = append(pacing, p.Policy)
		}
	}
	return pacing
}

// judgePacing says whether an interface's queueing disciplines keep the departures that these policies give to packets.
func judgePacing(iface string, qdiscs []netlink.Qdisc, pacing []policy.Policy) finding {
	root, room := departureQueues(qdiscs)
	held, slowest := uint64(0), ""
	for _, p := range pacing {
		if n := heldBack(&p); n > held || slowest == "" {
			held, slowest = n, p.Name
		}
	}
	mend := "tc qdisc replace dev " + iface + " root fq"
	if held > fqFlowLimit {
		mend += fmt.Sprintf(" flow_limit %d", held)
	}
	switch {
	case room == 0 && len(pacing) == 0:
		return good("queueing discipline %s, with which nothing can be paced", root)
	case room == 0:
		return warning(mend, "policy %s paces, and the queueing discipline %s does not hold packets back as fq does: they leave at once until they are %v ahead of the limit, and are dropped from there on",
			slowest, root, paceHorizon)
	case room < held:
		return warning(mend, "policy %s may hold %d packets of a flow back, and %s drops what is more than %d", slowest, held, root, room)
	}
	return good("queueing discipline %s, which can pace", root)
}

// heldBack is how many packets of a flow a policy may delay at once. Of bytes nobody knows how many packets they are: full ones
// is what a sender that fills its limit sends.
func heldBack(p *policy.Policy) uint64 {
	tokens := float64(p.Limit) * paceHorizon.Seconds() / p.Window.Seconds()
	if p.Unit == policy.UnitBytes {
		tokens /= 1514
	}
	return uint64(min(math.Ceil(tokens), math.MaxUint32))
}

// departureQueues names what an interface's packets wait in, and for how many packets of a flow it keeps departures; 0: it keeps none.
func departureQueues(qdiscs []netlink.Qdisc) (root string, room uint64) {
	root = "noqueue"
	var handle uint32
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			root, handle = q.Type(), q.Attrs().Handle
			room = flowRoom(q)
		}
	}
	if !slices.Contains([]string{"mq", "mqprio"}, root) {
		return root, room
	}
	// One below for each of the interface's queues.
	room = math.MaxUint64
	var below []string
	for _, q := range qdiscs {
		parent := q.Attrs().Parent
		if parent == netlink.HANDLE_ROOT || parent == netlink.HANDLE_CLSACT || parent&0xffff0000 != handle {
			continue
		}
		room = min(room, flowRoom(q))
		if !slices.Contains(below, q.Type()) {
			below = append(below, q.Type())
		}
	}
	if below == nil {
		return root, 0
	}
	return root + " over " + strings.Join(below, " and "), room
}

func flowRoom(q netlink.Qdisc) uint64 {
	fq, ok := q.(*netlink.Fq)
	if !ok {
		return 0
	}
	if fq.FlowPacketLimit == 0 {
		return fqFlowLimit
	}
	return uint64(fq.FlowPacketLimit)
}

// pacingFault asks an interface of this network namespace, and returns what keeps the policies of an attachment to it from
// pacing; "" if nothing does, or none of them paces.
func pacingFault(a *loader.Attachment) string {
	pacing := pacingOf(a.Policies)
	if a.Hook != loader.HookTCEgress || len(pacing) == 0 {
		return ""
	}
	l, err := netlink.LinkByName(a.Interface)
	if err != nil {
		return fmt.Sprintf("find out whether %s can pace: %v", a.Interface, err)
	}
	f := linkPacing(l, pacing)
	if f.Grade == gradeOK {
		return ""
	}
	return fmt.Sprintf("%s: %s (mend: %s)", a.Interface, f.Found, f.Mend)
}

func linkPacing(l netlink.Link, pacing []policy.Policy) finding {
	qdiscs, err := netlink.QdiscList(l)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return unknown(err)
	}
	return judgePacing(l.Attrs().Name, qdiscs, pacing)
}

// linkPacing tells whether the interface's queueing discipline can pace, and whether it has to.
func (m *machine) linkPacing(l netlink.Link) finding {
	own, err := loader.OwnNamespace()
	if err != nil {
		return unknown(err)
	}
	var pacing []policy.Policy
	for i := range m.attachments {
		a := &m.attachments[i]
		if a.Hook == loader.HookTCEgress && a.Index == l.Attrs().Index && a.Namespace == own {
			pacing = append(pacing, pacingOf(a.Policies)...)
		}
	}
	return linkPacing(l, pacing)
}

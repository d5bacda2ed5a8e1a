package main

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weir-limiter/weir/pkg/policy"
)

func qdisc(kind string, handle, parent uint32) netlink.Qdisc {
	return &netlink.GenericQdisc{QdiscType: kind, QdiscAttrs: netlink.QdiscAttrs{Handle: handle, Parent: parent}}
}

func fq(parent, flowLimit uint32) netlink.Qdisc {
	return &netlink.Fq{FlowPacketLimit: flowLimit, QdiscAttrs: netlink.QdiscAttrs{Parent: parent}}
}

func TestJudgePacing(t *testing.T) {
	const root, mq = netlink.HANDLE_ROOT, 0x80010000
	filters := qdisc("clsact", 0xffff0000, netlink.HANDLE_CLSACT)
	paces := func(name string, limit uint64, unit policy.Unit) policy.Policy {
		return policy.Policy{Name: name, Limit: limit, Window: time.Second, Unit: unit, Action: policy.ActionPace}
	}
	few, many := paces("few", 10, policy.UnitRequests), paces("many", 1000, policy.UnitRequests)
	bytes := paces("bytes", 1_514_000, policy.UnitBytes)
	for _, c := range []struct {
		name   string
		qdiscs []netlink.Qdisc
		pacing []policy.Policy
		want   grade
		found  string
		mend   string
	}{
		{"fq", []netlink.Qdisc{fq(root, 100), filters}, []policy.Policy{few}, gradeOK, "queueing discipline fq, which can pace", ""},
		{"fq with its defaults unsaid", []netlink.Qdisc{fq(root, 0)}, []policy.Policy{few}, gradeOK, "which can pace", ""},
		{"none", nil, []policy.Policy{few}, gradeWarn, "policy few paces, and the queueing discipline noqueue", "tc qdisc replace dev eth0 root fq"},
		{"none, and filters", []netlink.Qdisc{filters}, []policy.Policy{few}, gradeWarn, "noqueue", "tc qdisc replace dev eth0 root fq"},
		{"another", []netlink.Qdisc{qdisc("fq_codel", 0, root)}, []policy.Policy{few, many}, gradeWarn, "policy many paces, and the queueing discipline fq_codel", "tc qdisc replace dev eth0 root fq flow_limit 2000"},
		{"another, and nobody paces", []netlink.Qdisc{qdisc("fq_codel", 0, root)}, nil, gradeOK, "queueing discipline fq_codel, with which nothing can be paced", ""},
		{"too little room", []netlink.Qdisc{fq(root, 100)}, []policy.Policy{few, many}, gradeWarn, "policy many may hold 2000 packets of a flow back, and fq drops what is more than 100", "tc qdisc replace dev eth0 root fq flow_limit 2000"},
		{"room", []netlink.Qdisc{fq(root, 2000)}, []policy.Policy{few, many, bytes}, gradeOK, "which can pace", ""},
		{"room for bytes", []netlink.Qdisc{fq(root, 1999)}, []policy.Policy{bytes}, gradeWarn, "policy bytes may hold 2000 packets", "tc qdisc replace dev eth0 root fq flow_limit 2000"},
		{"fq for each queue", []netlink.Qdisc{qdisc("mq", mq, root), fq(mq|1, 300), fq(mq|2, 200)}, []policy.Policy{few}, gradeOK, "mq over fq, which can pace", ""},
		{"not for each", []netlink.Qdisc{qdisc("mq", mq, root), fq(mq|1, 300), qdisc("pfifo_fast", 0, mq|2)}, []policy.Policy{few}, gradeWarn, "mq over fq and pfifo_fast does not hold", "root fq"},
		{"for each, too little", []netlink.Qdisc{qdisc("mq", 0, root), fq(1, 300), fq(2, 10), filters}, []policy.Policy{few}, gradeWarn, "policy few may hold 20 packets of a flow back, and mq over fq drops what is more than 10", "root fq"},
		{"mq with nothing below", []netlink.Qdisc{qdisc("mq", mq, root)}, []policy.Policy{few}, gradeWarn, "mq does not hold", "root fq"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := judgePacing("eth0", c.qdiscs, c.pacing)
			expect(t, f, c.want, c.found)
			expect(t, finding{Grade: c.want, Found: f.Mend}, c.want, c.mend)
		})
	}
}

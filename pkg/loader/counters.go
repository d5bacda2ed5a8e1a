package loader

import (
	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/policy"
)

// verdicts and reasons name the enums of types.h, in their order.
var (
	verdicts = [...]policy.Verdict{policy.VerdictPass, policy.VerdictDrop, policy.VerdictShadowDrop}
	reasons  = [...]string{
		"truncated", "not_ip", "vlan_depth", "bad_header", "neighbor_discovery",
		"later_fragment", "extension_depth", "truncated_ports",
	}
	lists = [...]string{"", "allow", "deny", "ban"} // the first stands for none of them
)

// The names have to be as many as the counters: an array of another length does not compile.
var (
	_ [len(xdpPolicyCounters{}.Packets)]policy.Verdict  = verdicts
	_ [len(xdpInterfaceCounters{}.Unparsed)]string      = reasons
	_ [len(xdpInterfaceCounters{}.ListedPackets)]string = lists
)

// Count is an amount of traffic. Bytes are those of the frames, without their checksums.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Counters are those of one attachment, summed over the CPUs.
type Counters struct {
	// Policies has the traffic of each policy by verdict.
	Policies map[string]map[policy.Verdict]Count
	// Strangers has, by policy, how many of the drops (shadow or not) were of first-seen sources beyond
	// new_sources.
	Strangers map[string]uint64
	// Paced has, by policy, how many of the passes were given a later departure.
	Paced map[string]uint64
	// Unparsed has the packets that passed without being charged, by reason: truncated, not_ip,
	// vlan_depth, bad_header, neighbor_discovery. And those that were charged, but by no policy that
	// asks for a port: later_fragment, extension_depth, truncated_ports.
	Unparsed map[string]uint64
	// Listed has what a list decided: allow, deny or ban.
	Listed map[string]Count
	// EventsLost counts the samples that nobody read in time.
	EventsLost uint64
	// HotLost counts the announcements of sources that use much which found no room, or were one too many: the
	// source is announced when it has used as much again.
	HotLost uint64
	// Pressure counts the packets of a source without an entry which found that all entries of its
	// set owe tokens.
	Pressure uint64
	// Contended counts the packets that were denied because other CPUs won every compare-and-swap.
	Contended uint64
}

func (d *StateDir) readCounters(set string, policies []LoadedPolicy) (Counters, error) {
	c := newCounters()
	stats, err := ebpf.LoadPinnedMap(d.pin(set, "policy_stats"), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return c, err
	}
	defer stats.Close()
	for _, p := range policies {
		if err := c.addPolicy(stats, &p); err != nil {
			return c, err
		}
	}
	return c, d.readInterfaceCounters(set, &c)
}

func newCounters() Counters {
	return Counters{
		Policies: map[string]map[policy.Verdict]Count{}, Strangers: map[string]uint64{}, Paced: map[string]uint64{},
		Unparsed: map[string]uint64{}, Listed: map[string]Count{},
	}
}

func (c *Counters) addPolicy(stats *ebpf.Map, p *LoadedPolicy) error {
	var cpus []xdpPolicyCounters
	if err := stats.Lookup(uint32(p.Slot), &cpus); err != nil {
		return err
	}
	c.Policies[p.Name] = sumVerdicts(cpus)
	for _, cpu := range cpus {
		c.Strangers[p.Name] += cpu.Strangers
		c.Paced[p.Name] += cpu.Paced
	}
	return nil
}

func sumVerdicts(cpus []xdpPolicyCounters) map[policy.Verdict]Count {
	sum := map[policy.Verdict]Count{}
	for i, verdict := range verdicts {
		var n Count
		for _, cpu := range cpus {
			n.Packets += cpu.Packets[i]
			n.Bytes += cpu.Bytes[i]
		}
		sum[verdict] = n
	}
	return sum
}

func (d *StateDir) readInterfaceCounters(set string, c *Counters) error {
	stats, err := ebpf.LoadPinnedMap(d.pin(set, "interface_stats"), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer stats.Close()
	return sumInterfaceCounters(stats, c)
}

func sumInterfaceCounters(stats *ebpf.Map, c *Counters) error {
	var cpus []xdpInterfaceCounters
	if err := stats.Lookup(uint32(0), &cpus); err != nil {
		return err
	}
	for _, cpu := range cpus {
		for i, reason := range reasons {
			c.Unparsed[reason] += cpu.Unparsed[i]
		}
		for i, list := range lists[1:] {
			n := c.Listed[list]
			n.Packets += cpu.ListedPackets[i+1]
			n.Bytes += cpu.ListedBytes[i+1]
			c.Listed[list] = n
		}
		c.EventsLost += cpu.EventsLost
		c.HotLost += cpu.HotLost
		c.Pressure += cpu.Pressure
		c.Contended += cpu.Contended
	}
	return nil
}

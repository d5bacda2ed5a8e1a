package loader

import (
	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/policy"
)

// verdicts and reasons name the enums of types.h, in their order.
var (
	verdicts = [...]policy.Verdict{policy.VerdictPass, policy.VerdictDrop, policy.VerdictShadowDrop}
	reasons  = [...]string{"truncated", "not_ip", "vlan_depth", "bad_header", "neighbor_discovery"}
)

// The names have to be as many as the counters: an array of another length does not compile.
var (
	_ [len(xdpPolicyCounters{}.Packets)]policy.Verdict = verdicts
	_ [len(xdpInterfaceCounters{}.Unparsed)]string     = reasons
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
	// Unparsed has the packets that passed without being charged, by reason: truncated, not_ip,
	// vlan_depth, bad_header, neighbor_discovery.
	Unparsed map[string]uint64
	// Pressure counts the packets of a source without an entry which found that all entries of its
	// set owe tokens.
	Pressure uint64
	// Contended counts the packets that were denied because other CPUs won every compare-and-swap.
	Contended uint64
}

func (d *StateDir) readCounters(set string, policies []LoadedPolicy) (Counters, error) {
	c := Counters{Policies: map[string]map[policy.Verdict]Count{}, Unparsed: map[string]uint64{}}
	stats, err := ebpf.LoadPinnedMap(d.pin(set, "policy_stats"), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return c, err
	}
	defer stats.Close()
	for _, p := range policies {
		if c.Policies[p.Name], err = readPolicyCounters(stats, p.Slot); err != nil {
			return c, err
		}
	}
	return c, d.readInterfaceCounters(set, &c)
}

func readPolicyCounters(stats *ebpf.Map, slot uint8) (map[policy.Verdict]Count, error) {
	var cpus []xdpPolicyCounters
	if err := stats.Lookup(uint32(slot), &cpus); err != nil {
		return nil, err
	}
	sum := map[policy.Verdict]Count{}
	for i, verdict := range verdicts {
		var n Count
		for _, cpu := range cpus {
			n.Packets += cpu.Packets[i]
			n.Bytes += cpu.Bytes[i]
		}
		sum[verdict] = n
	}
	return sum, nil
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
		c.Pressure += cpu.Pressure
		c.Contended += cpu.Contended
	}
	return nil
}

package loader

import (
	"slices"

	"github.com/weir-limiter/weir/pkg/policy"
)

// PolicyCPUs are the counters of one policy of one attachment, by CPU.
type PolicyCPUs struct {
	Owner
	Policy string                     `json:"policy"`
	Slot   uint8                      `json:"slot"`
	CPUs   []map[policy.Verdict]Count `json:"cpus"`
	// Strangers and Paced are by CPU too: see [Counters].
	Strangers []uint64 `json:"strangers"`
	Paced     []uint64 `json:"paced"`
}

// PolicyStats reads the policies' counters without summing them over the CPUs.
func (d *StateDir) PolicyStats() ([]PolicyCPUs, error) {
	return perAttachment(d, "counters", d.readPolicyCPUs)
}

func (d *StateDir) readPolicyCPUs(id attachmentID, set string) ([]PolicyCPUs, error) {
	constants, err := d.readConstants(id, set)
	if err != nil {
		return nil, err
	}
	stats, err := d.openMap(set, "policy_stats")
	if err != nil {
		return nil, err
	}
	defer stats.Close()
	var all []PolicyCPUs
	for _, p := range constants.Policies {
		var cpus []xdpPolicyCounters
		if err := stats.Lookup(uint32(p.Slot), &cpus); err != nil {
			return nil, err
		}
		s := PolicyCPUs{Owner: id.owner(), Policy: p.Name, Slot: p.Slot}
		for _, cpu := range cpus {
			counts := map[policy.Verdict]Count{}
			for i, verdict := range verdicts {
				counts[verdict] = Count{Packets: cpu.Packets[i], Bytes: cpu.Bytes[i]}
			}
			s.CPUs = append(s.CPUs, counts)
			s.Strangers, s.Paced = append(s.Strangers, cpu.Strangers), append(s.Paced, cpu.Paced)
		}
		all = append(all, s)
	}
	return all, nil
}

// InterfaceCPUs are the counters of one attachment that belong to no policy, by CPU.
type InterfaceCPUs struct {
	Owner
	CPUs []InterfaceCount `json:"cpus"`
}

// InterfaceCount is what one CPU counted; see [Counters] for what the numbers mean.
type InterfaceCount struct {
	Unparsed  map[string]uint64 `json:"unparsed"`
	Pressure  uint64            `json:"table_pressure"`
	Contended uint64            `json:"contended"`
	// Listed has what allow, deny and ban decided.
	Listed     map[string]Count `json:"listed"`
	EventsLost uint64           `json:"events_lost"`
	// HotLost counts announcements that found no room, or were one too many.
	HotLost uint64 `json:"hot_lost"`
}

// UnparsedReasons are the keys of Unparsed, in the order in which they are told.
func UnparsedReasons() []string { return slices.Clone(reasons[:]) }

// ListNames are the keys of Listed, in the order in which the programs ask the lists.
func ListNames() []string { return slices.Clone(lists[1:]) }

// InterfaceStats reads the interfaces' counters without summing them over the CPUs.
func (d *StateDir) InterfaceStats() ([]InterfaceCPUs, error) {
	return perAttachment(d, "counters", d.readInterfaceCPUs)
}

func (d *StateDir) readInterfaceCPUs(id attachmentID, set string) ([]InterfaceCPUs, error) {
	stats, err := d.openMap(set, "interface_stats")
	if err != nil {
		return nil, err
	}
	defer stats.Close()
	var cpus []xdpInterfaceCounters
	if err := stats.Lookup(uint32(0), &cpus); err != nil {
		return nil, err
	}
	s := InterfaceCPUs{Owner: id.owner()}
	for _, cpu := range cpus {
		c := InterfaceCount{
			Unparsed: map[string]uint64{}, Pressure: cpu.Pressure, Contended: cpu.Contended,
			Listed: map[string]Count{}, EventsLost: cpu.EventsLost, HotLost: cpu.HotLost,
		}
		for i, list := range lists[1:] {
			c.Listed[list] = Count{cpu.ListedPackets[i+1], cpu.ListedBytes[i+1]}
		}
		for i, reason := range reasons {
			c.Unparsed[reason] = cpu.Unparsed[i]
		}
		s.CPUs = append(s.CPUs, c)
	}
	return []InterfaceCPUs{s}, nil
}

package metrics

import "github.com/prometheus/client_golang/prometheus"

// descriptions are all the metrics. Their labels are closed sets or names that the operator chose:
// interfaces, policies, verdicts, reasons, lists, address families.
type descriptions struct {
	packets, bytes, unparsed, contended *prometheus.Desc
	entries, owing, capacity, pressure  *prometheus.Desc
	policies, build                     *prometheus.Desc
	listedPackets, listedBytes, bans    *prometheus.Desc
	strangers, paced, lost              *prometheus.Desc
	leasing, denying                    *prometheus.Desc
}

func describeOne(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("rate_limiter_"+name, help, labels, nil)
}

func describe() descriptions {
	desc := describeOne
	return descriptions{
		packets: desc("kernel_packets_total",
			"Packets that a policy judged in the kernel, by verdict: pass, drop or shadow-drop.",
			"interface", "policy", "verdict"),
		bytes: desc("kernel_bytes_total",
			"Bytes of the frames that a policy judged in the kernel, by verdict: pass, drop or shadow-drop.",
			"interface", "policy", "verdict"),
		unparsed: desc("kernel_unparsed_total",
			"Packets that passed without being charged to any policy, by the reason.",
			"interface", "reason"),
		contended: desc("kernel_contended_total",
			"Packets that were denied because other CPUs won every compare-and-swap on their bucket.",
			"interface"),
		listedPackets: desc("kernel_listed_packets_total",
			"Packets that a list decided over before any policy, by list: allow passes them, deny and ban drop them.",
			"interface", "list"),
		listedBytes: desc("kernel_listed_bytes_total",
			"Bytes of the frames that a list decided over before any policy, by list: allow, deny or ban.",
			"interface", "list"),
		strangers: desc("kernel_stranger_drops_total",
			"Packets of first-seen sources beyond a policy's new_sources, dropped or in shadow: a part of its drops.",
			"interface", "policy"),
		paced: desc("kernel_paced_packets_total",
			"Packets over a policy's limit that were given a later departure: a part of its passes.",
			"interface", "policy"),
		lost: desc("kernel_events_lost_total",
			"Samples of packets that found the ring buffer of events full."),
		bans: desc("kernel_bans", "Timed bans that are in force, by address family: ipv4 or ipv6.", "family"),
		leasing: desc("kernel_leasing_slots",
			"Slots of CPUs that hold tokens which they took from a bucket and have not spent."),
		denying: desc("kernel_denying_slots",
			"Slots of CPUs whose last answer was a denial, which they repeat by themselves until the next token is due."),
		entries:  desc("table_entries", "Entries of the bucket table that a source was given."),
		owing:    desc("table_owing_entries", "Entries of the bucket table whose bucket is not full."),
		capacity: desc("table_capacity", "Entries that the bucket table has room for."),
		pressure: desc("table_pressure_total",
			"Packets of sources without an entry which found every entry of their set owing tokens."),
		policies: desc("active_policies", "Policies that are in force: on one interface or more, or for requests of layer 7.", "instance"),
		build:    desc("build_info", "Always 1; the labels say which program is running.", "version", "revision", "goversion"),
	}
}

func (d descriptions) all() []*prometheus.Desc {
	return []*prometheus.Desc{
		d.packets, d.bytes, d.unparsed, d.contended, d.entries, d.owing, d.capacity, d.pressure, d.policies, d.build,
		d.listedPackets, d.listedBytes, d.bans, d.strangers, d.paced, d.lost, d.leasing, d.denying,
	}
}

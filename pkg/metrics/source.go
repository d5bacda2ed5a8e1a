package metrics

import "github.com/weir-limiter/weir/pkg/policy"

// Source is what a [Collector] reads. Its methods may be called by several goroutines at once.
type Source interface {
	// Kernel reads the counters of everything that is attached.
	Kernel() (Kernel, error)
	// Table reads how full the bucket table is. It may be expensive: see [Collector].
	Table() (Table, error)
	// BanCounts counts the timed bans that are in force. It may be expensive too.
	BanCounts() (Bans, error)
}

// Kernel is what the kernel counted until the moment at which it was read.
type Kernel struct {
	// Attachments have each pair of an interface and a hook once.
	Attachments []Attachment
	// Policies is how many policies are in force on one interface or more.
	Policies int
}

// Attachment has the counters of one hook of an interface.
type Attachment struct {
	Interface, Hook string
	Policies        []Policy
	// Unparsed has the packets that passed without being charged, by reason.
	Unparsed map[string]uint64
	// Listed has what a list decided: allow, deny or ban.
	Listed map[string]Count
	// Pressure counts packets that found every entry of their set of the table owing tokens.
	Pressure uint64
	// Contended counts packets that were denied because other CPUs won every compare-and-swap.
	Contended uint64
	// EventsLost counts samples that found the ring buffer full.
	EventsLost uint64
}

// Policy has the traffic that one policy judged at one attachment.
type Policy struct {
	Name     string
	Verdicts map[policy.Verdict]Count
	// Strangers are the drops, shadow or not, of first-seen sources beyond new_sources.
	Strangers uint64
	// Paced are the passes that were given a later departure.
	Paced uint64
}

// Count is an amount of traffic.
type Count struct {
	Packets, Bytes uint64
}

// Table says how full the bucket table is, in entries, and what the CPUs' slots stand in for.
type Table struct {
	Capacity int // that there are
	Claimed  int // that a source was given
	Owing    int // of these, the ones whose bucket is not full
	Leasing  int // slots of CPUs that hold tokens which are not spent yet
	Denying  int // slots of CPUs that deny by themselves
}

// Bans says how many bans are in force.
type Bans struct{ IPv4, IPv6 int }

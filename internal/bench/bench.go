package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The bounds of [Options], and defaults that take some three minutes. Rounds are few and long: the kernel takes some 30 ms to
// begin and to end a turn, and a flood meets the caches as they are when nobody else uses them only after a while.
const (
	MaxRounds      = 101
	DefaultRounds  = 11
	MinPackets     = 1_000
	MaxPackets     = 10_000_000
	DefaultPackets = 300_000
)

const (
	manySources  = 1 << 16
	tableEntries = 1 << 20
)

// ErrOptions says that an option is out of its range.
var ErrOptions = errors.New("option out of range")

// Options says how much to measure, and what to compare with.
type Options struct {
	Rounds  int // 1 to MaxRounds
	Packets int // of each contender in each round: MinPackets to MaxPackets
	// Only names the sections to measure, see [Sections]. Empty: all.
	Only []string
	// Compare is the path of the object to compare with, bpf/bench/lru.bpf.o. Empty: that contender is left out.
	Compare string
	// Progress is called after each round with what is being measured. It may be nil.
	Progress func(what string, round, rounds int)
}

// section is a part of the run that can be asked for by itself.
type section struct {
	name    string
	measure func(*runner, context.Context) error
}

func sections() []section {
	return []section{
		{sectionRun, (*runner).runPrograms},
		{sectionPolicies, (*runner).runPolicies},
		{sectionLive, (*runner).runLive},
		{sectionCPUs, (*runner).runCPUs},
		{sectionLookup, (*runner).runLookups},
		{sectionVerifier, (*runner).runVerifier},
	}
}

// The sections' names.
const (
	sectionRun      = "run"      // a program on one packet in memory
	sectionPolicies = "policies" // the same under several policies
	sectionLive     = "live"     // frames through a veth pair, and other limiters
	sectionCPUs     = "cpus"     // one source on two CPUs
	sectionLookup   = "lookup"   // prefixes and bans
	sectionVerifier = "verifier" // what the verifier says of the program
)

// Sections are the names that [Options.Only] may have, in the order of the run.
func Sections() []string {
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}

func (o *Options) validate() error {
	if o.Rounds < 1 || o.Rounds > MaxRounds {
		return fmt.Errorf("%w: %d rounds, want 1 to %d", ErrOptions, o.Rounds, MaxRounds)
	}
	if o.Packets < MinPackets || o.Packets > MaxPackets {
		return fmt.Errorf("%w: %d packets, want %d to %d", ErrOptions, o.Packets, MinPackets, MaxPackets)
	}
	for _, name := range o.Only {
		if !slices.Contains(Sections(), name) {
			return fmt.Errorf("%w: no section %q, want some of %s", ErrOptions, name, strings.Join(Sections(), ", "))
		}
	}
	return nil
}

// Run measures everything. It needs root, or CAP_BPF and CAP_NET_ADMIN and for the live frames CAP_SYS_ADMIN; it touches no
// interface but those of network namespaces that it makes itself, and pins nothing. What a contender did otherwise than its
// row says is void in the report: see [Report.Void].
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	r := &runner{
		Options: o, many: manySources, entries: tableEntries, setEntries: firewallEntries, live: tight(),
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r.run(ctx)
}

// runner is one run.
type runner struct {
	Options
	many       uint64 // sources where there are many
	entries    int    // of weir's table, and of the LRU hash
	setEntries int    // of the firewall's tables
	comparison *ebpf.CollectionSpec
	live       policy.Policy // for live frames
	report     *Report
}

func (r *runner) open() (err error) {
	if r.Compare != "" {
		r.comparison, err = openComparison(r.Compare)
	}
	return err
}

func (r *runner) run(ctx context.Context) (_ *Report, err error) {
	r.report = &Report{Rounds: r.Rounds, Packets: r.Packets, Rows: []Row{}, Comparisons: []Comparison{}}
	if r.report.Machine, err = r.describe(); err != nil {
		return nil, err
	}
	if r.comparison == nil {
		r.leaveOut(nameLRU, "no object to compare with was given (bpf/bench/lru.bpf.o of weir's source)")
	}
	for _, s := range sections() {
		if len(r.Only) > 0 && !slices.Contains(r.Only, s.name) {
			continue
		}
		if err := s.measure(r, ctx); err != nil {
			return nil, err
		}
	}
	return r.report, nil
}

func (r *runner) describe() (_ Machine, err error) {
	w, err := newWeir(nil, bucket.SetWays)
	if err != nil {
		return Machine{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return describeMachine(w.program())
}

// leaveOut says once what is not measured, and why.
func (r *runner) leaveOut(what, why string) {
	l := LeftOut{what, why}
	if !slices.Contains(r.report.LeftOut, l) {
		r.report.LeftOut = append(r.report.LeftOut, l)
	}
}

package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// The bounds of [Options], and defaults that take less than a minute. Rounds are few and long: the kernel takes some 30 ms to
// begin and to end one, and a flood meets the caches as they are when nobody else uses them only after a while.
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
	// Compare is the path of the object to compare with, bpf/bench/lru.bpf.o. Empty: weir is measured alone.
	Compare string
	// Parallel measures one source on two CPUs at once as well.
	Parallel bool
	// Progress is called after each round with what is being measured. It may be nil.
	Progress func(what string, round, rounds int)
}

func (o *Options) validate() error {
	if o.Rounds < 1 || o.Rounds > MaxRounds {
		return fmt.Errorf("%w: %d rounds, want 1 to %d", ErrOptions, o.Rounds, MaxRounds)
	}
	if o.Packets < MinPackets || o.Packets > MaxPackets {
		return fmt.Errorf("%w: %d packets, want %d to %d", ErrOptions, o.Packets, MinPackets, MaxPackets)
	}
	return nil
}

// Run measures everything. It needs root, or CAP_BPF and CAP_NET_ADMIN; it attaches and pins nothing. It fails with
// [ErrVerdict] if a program did not do what its row says.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	r := &runner{Options: o, many: manySources, entries: tableEntries}
	var err error
	if o.Compare != "" {
		if r.comparison, err = openComparison(o.Compare); err != nil {
			return nil, err
		}
	}
	return r.run(ctx)
}

// runner is one run.
type runner struct {
	Options
	many       uint64 // sources of the middle row
	entries    int    // of the tables
	comparison *ebpf.CollectionSpec
	memory     *Memory
}

func (r *runner) run(ctx context.Context) (*Report, error) {
	one, err := lastCPUs(1)
	if err != nil {
		return nil, err
	}
	report := &Report{Rounds: r.Rounds, Packets: r.Packets}
	if report.Machine, err = r.describe(); err != nil {
		return nil, err
	}
	for _, s := range scenarios(r.many, r.entries) {
		row, err := r.row(ctx, &s, one)
		if err != nil {
			return nil, err
		}
		report.Rows = append(report.Rows, *row)
	}
	if report.Policies, err = r.policies(ctx, one); err != nil {
		return nil, err
	}
	if r.Parallel {
		report.Parallel, err = r.parallel(ctx)
	}
	report.Memory = r.memory
	return report, err
}

func (r *runner) describe() (_ Machine, err error) {
	w, err := newWeir(generous(1), bucket.SetWays)
	if err != nil {
		return Machine{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return describeMachine(w.program())
}

// row measures all contenders on one kind of traffic.
func (r *runner) row(ctx context.Context, s *scenario, cpus []int) (_ *Row, err error) {
	var lanes []*lane
	defer func() { err = errors.Join(err, closeAll(lanes)) }()
	if lanes, err = r.lanes(s); err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	measured, err := r.measure(ctx, s, lanes, cpus)
	if err != nil {
		return nil, err
	}
	row := &Row{Sources: s.sources, Verdict: s.verdict, Bare: measured[0].Summary, Weir: measured[1]}
	if len(measured) > 2 {
		row.compare(measured[2], s.target)
	}
	return row, nil
}

// lanes are the bare drop, weir, and the conventional bucket if there is one. What it returns is to be closed even on an error.
func (r *runner) lanes(s *scenario) (lanes []*lane, err error) {
	add := func(c contender, expect policy.Verdict) error {
		l, err := newLane(c, s.sources, expect)
		if err == nil {
			lanes = append(lanes, l)
		}
		return err
	}
	if err := add(bare{}, policy.VerdictDrop); err != nil {
		return lanes, err
	}
	w, err := newWeir(s.policies, s.entries)
	if err != nil {
		return lanes, err
	}
	if err := add(w, s.verdict); err != nil || r.comparison == nil {
		return lanes, err
	}
	l, err := newLRU(r.comparison, s.policies[0], s.entries)
	if err != nil {
		return lanes, err
	}
	r.memory = &Memory{Sources: s.entries, Weir: uint64(w.Table().Sets() * bucket.SetSize), LRU: l.memory()}
	return lanes, add(l, s.lru)
}

// measure warms the lanes up, lets them take turns, and verifies what they did.
func (r *runner) measure(ctx context.Context, s *scenario, lanes []*lane, cpus []int) ([]Measured, error) {
	what := s.String()
	r.progress(what, 0)
	for _, l := range lanes {
		if err := l.warm(ctx, cpus, s.warmUp); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	for round := range r.Rounds {
		for _, l := range lanes {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			if err := l.turn(cpus, s.leadIn, r.Packets); err != nil {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
		}
		r.progress(what, round+1)
	}
	measured := make([]Measured, len(lanes))
	for i, l := range lanes {
		share, err := l.verify(r.Rounds * r.Packets * len(cpus))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		measured[i] = Measured{Summary: Summarise(l.samples), Verdict: l.expect, Share: share}
	}
	return measured, nil
}

func (r *runner) progress(what string, round int) {
	if r.Progress != nil {
		r.Progress(what, round, r.Rounds)
	}
}

func closeAll(lanes []*lane) error {
	var errs []error
	for _, l := range lanes {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

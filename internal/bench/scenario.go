package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// warmUpOne is how many packets make a single source's bucket what it then stays.
const warmUpOne = 10_000

// flood is so many sources that hardly a packet finds its own bucket again.
const flood = 1 << 32

// What weir may cost at most: one source's packet beyond a bare drop, in ns, and as a part of the conventional bucket.
const (
	targetAdmitted = 30
	targetDenied   = 35
	targetMany     = 0.55
	targetFlood    = 0.40
)

// scenario is one row of the first table: a number of sources, and what becomes of their packets.
type scenario struct {
	sources  uint64         // a power of two
	verdict  policy.Verdict // of weir, on practically every packet
	lru      policy.Verdict // of the conventional bucket
	policies []policy.Policy
	entries  int // room for so many sources
	warmUp   int // see programLane
	leadIn   int
	targets  []comparison
}

func (s *scenario) String() string {
	verdict := "admitted"
	if s.verdict == policy.VerdictDrop {
		verdict = "denied"
	}
	return Sources(s.sources) + ", " + verdict
}

// Sources writes a number of sources: a power of two as one, from the million on.
func Sources(n uint64) string {
	if n == 1 {
		return "1 source"
	}
	if n >= 1<<20 && n&(n-1) == 0 {
		exponent := 0
		for ; n > 1; n >>= 1 {
			exponent++
		}
		return fmt.Sprintf("2^%d sources", exponent)
	}
	return fmt.Sprintf("%d sources", n)
}

// scenarios are one source, many, and a spoofed flood, within their limits and beyond them.
func scenarios(many uint64, entries int) []scenario {
	var all []scenario
	for _, verdict := range []policy.Verdict{policy.VerdictPass, policy.VerdictDrop} {
		limits, over := generous(1), costOver(targetAdmitted)
		if verdict == policy.VerdictDrop {
			limits, over = []policy.Policy{miserly()}, costOver(targetDenied)
		}
		all = append(all,
			scenario{
				sources: 1, verdict: verdict, lru: verdict, policies: limits, entries: entries, warmUp: warmUpOne,
				targets: []comparison{over, costRatio(nameWeir, nameLRU, 0)},
			},
			scenario{
				sources: many, verdict: verdict, lru: verdict, policies: limits, entries: entries,
				// A source has not come up by then with a probability of e^-32.
				warmUp: 32 * int(many), leadIn: 2 * int(many),
				targets: []comparison{costRatio(nameWeir, nameLRU, targetMany)},
			},
			scenario{
				sources: flood, verdict: verdict, policies: limits, entries: entries,
				// Whoever is new has a full bucket, and whom the LRU forgot is new.
				lru: policy.VerdictPass,
				// With 16 newcomers to a set of four ways, one set in 10,000 has a way left.
				warmUp:  4 * entries,
				targets: []comparison{costRatio(nameWeir, nameLRU, targetFlood)},
			})
	}
	return all
}

// runPrograms measures one policy beside a bare drop and the conventional bucket.
func (r *runner) runPrograms(ctx context.Context) error {
	one, err := lastCPUs(1)
	if err != nil {
		return err
	}
	for _, s := range scenarios(r.many, r.entries) {
		c, err := r.scenarioContest(&s, one)
		if err != nil {
			return errors.Join(err, c.Close())
		}
		if err := r.hold(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// scenarioContest is to be closed even on an error.
func (r *runner) scenarioContest(s *scenario, cpus []int) (*contest, error) {
	c := &contest{section: sectionRun, traffic: s.String(), comparisons: s.targets}
	floor := programLane{title: nameBare, cpus: cpus, warmUp: warmUpOne, claim: all(policy.VerdictDrop)}
	if err := c.add(r.programLane(floor, s.sources, bare{}, nil)); err != nil {
		return c, err
	}
	usual := programLane{title: nameWeir, cpus: cpus, warmUp: s.warmUp, leadIn: s.leadIn, claim: all(s.verdict)}
	w, err := newWeir(s.policies, s.entries)
	if err := c.add(r.programLane(usual, s.sources, w, err)); err != nil || r.comparison == nil {
		return c, err
	}
	l, err := newLRU(r.comparison, s.policies[0], s.entries)
	if err == nil {
		r.report.Memory = &Memory{Sources: s.entries, Weir: uint64(w.Table().Sets() * (bucket.SetSize + bucket.SetWays)), LRU: l.memory()}
	}
	usual.title, usual.claim = nameLRU, all(s.lru)
	return c, c.add(r.programLane(usual, s.sources, l, err))
}

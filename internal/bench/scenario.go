package bench

import (
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// warmUpOne is how many packets make a single source's bucket what it then stays.
const warmUpOne = 10_000

// flood is so many sources that hardly a packet finds its own bucket again.
const flood = 1 << 32

// What weir's cost may be at most, as a part of the conventional bucket's.
const (
	targetOneSource = 0.75
	targetFlood     = 0.45
)

// scenario is one row: a number of sources, and what becomes of their packets.
type scenario struct {
	label    string         // empty: sources and verdict say enough
	sources  uint64         // a power of two
	verdict  policy.Verdict // of weir, on practically every packet
	lru      policy.Verdict // of the conventional bucket
	policies []policy.Policy
	entries  int     // room for so many sources
	warmUp   int     // packets until the state is what the row is about
	leadIn   int     // packets before each turn, until the caches are warm again; 0: a turn's first few do it
	target   float64 // 0: none
}

func (s *scenario) String() string {
	if s.label != "" {
		return s.label
	}
	return fmt.Sprintf("sources %s, verdict %s", Sources(s.sources), s.verdict)
}

// Sources writes a number of sources: a power of two as one, from the million on.
func Sources(n uint64) string {
	if n >= 1<<20 && n&(n-1) == 0 {
		exponent := 0
		for ; n > 1; n >>= 1 {
			exponent++
		}
		return fmt.Sprintf("2^%d", exponent)
	}
	return fmt.Sprint(n)
}

// scenarios are the rows of the table: one source, many, and a spoofed flood, within their limits and beyond them.
func scenarios(many uint64, entries int) []scenario {
	var all []scenario
	for _, verdict := range []policy.Verdict{policy.VerdictPass, policy.VerdictDrop} {
		limits := generous(1)
		if verdict == policy.VerdictDrop {
			limits = []policy.Policy{miserly()}
		}
		all = append(all,
			scenario{
				sources: 1, verdict: verdict, lru: verdict, policies: limits, entries: entries,
				warmUp: warmUpOne, target: targetOneSource,
			},
			scenario{
				sources: many, verdict: verdict, lru: verdict, policies: limits, entries: entries,
				// A source has not come up by then with a probability of e^-32.
				warmUp: 32 * int(many), leadIn: 2 * int(many),
			},
			scenario{
				sources: flood, verdict: verdict, policies: limits, entries: entries,
				// Whoever is new has a full bucket, and whom the LRU forgot is new.
				lru: policy.VerdictPass,
				// With 16 newcomers to a set of four ways, one set in 10,000 has a way left.
				warmUp: 4 * entries, target: targetFlood,
			})
	}
	return all
}

// generous are n policies within which every packet is: a source sends 10 ns apart at most.
func generous(n int) []policy.Policy {
	policies := make([]policy.Policy, n)
	for i := range policies {
		policies[i] = policy.Policy{
			Name: fmt.Sprintf("generous-%d", i), Scope: policy.ScopePerIP,
			Limit: policy.MaxRequestRate, Window: time.Second,
		}.WithDefaults()
	}
	return policies
}

// miserly is a policy that a source's second packet exceeds, and a newcomer's first when no entry is free.
func miserly() policy.Policy {
	return policy.Policy{
		Name: "miserly", Scope: policy.ScopePerIP, Limit: 1, Window: policy.SlowestToken,
		OnPressure: policy.PressureDrop,
	}.WithDefaults()
}

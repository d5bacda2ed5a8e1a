package limiter

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// BackendMemory is the backend of what was decided in this process alone.
const BackendMemory = "memory"

// Health says how the limiter is.
func (l *Limiter) Health(context.Context) Health {
	n := l.totals.sum()
	return Health{TotalRequests: n.allowed + n.exceeded, Since: l.made}
}

// Stats counts what the limiter did. It walks over all of the table: not for every request.
func (l *Limiter) Stats(context.Context) Stats {
	s := l.Counters()
	o := l.table.Occupancy(l.now().Ticks)
	s.Table.Capacity, s.Table.Claimed, s.Table.Owing = o.Capacity, o.Claimed, o.Owing
	s.Table.Bytes = o.Capacity * bucket.SetSize / bucket.SetWays
	return s
}

// Counters is Stats without how full the table is, which is what takes the walk.
func (l *Limiter) Counters() Stats {
	n, set := l.totals.sum(), l.set.Load()
	s := Stats{
		TotalRequests: n.allowed + n.exceeded, MemoryRequests: n.allowed + n.exceeded,
		AllowedRequests: n.allowed, ExceededRequests: n.exceeded, InvalidRequests: l.invalid.Load(),
		ActivePolicies: len(set.rules), Policies: []PolicyStats{},
	}
	if n.timed > 0 {
		s.AverageLatencyMS = float64(n.took) / float64(n.timed) / float64(time.Millisecond)
	}
	for _, r := range set.rules {
		s.add(r.policy.Name, string(r.policy.Mode), r.counters)
	}
	for _, name := range l.ruleNames() {
		s.add(name, "enforce", l.ruleCountersOf(name))
	}
	s.add(OwnPolicy, "enforce", l.own)
	return s
}

func (s *Stats) add(name, mode string, c *counters) {
	n := c.sum()
	s.Table.Pressure += n.pressure
	s.Policies = append(s.Policies, PolicyStats{
		Policy: name, Mode: mode, Hits: n.allowed + n.exceeded + n.shadowExceeded + n.refunded,
		Allowed: n.allowed, Exceeded: n.exceeded, ShadowExceeded: n.shadowExceeded, Refunded: n.refunded,
	})
}

// ruleNames are the names of rules, in alphabetical order.
func (l *Limiter) ruleNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.ruleCounters))
	for name := range l.ruleCounters {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

func (l *Limiter) ruleCountersOf(name string) *counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ruleCounters[name]
}

// Durations is a histogram of how long decisions took. Of many, every sixteenth is timed and counts for as many,
// so that its count may be a little less than there were.
type Durations struct {
	Bounds []time.Duration // upper, included
	Counts []uint64        // of each bound, not cumulated, and one more for what took longer
	Sum    time.Duration
}

// Durations tells how long decisions took, by backend: see [BackendMemory].
func (l *Limiter) Durations() map[string]Durations {
	n := l.totals.sum()
	return map[string]Durations{BackendMemory: {Bounds: slices.Clone(durationBounds[:]), Counts: n.durations[:], Sum: n.took}}
}

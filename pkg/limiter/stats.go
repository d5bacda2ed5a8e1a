package limiter

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// The backends: where the state was that decisions rest on.
const (
	BackendMemory   = "memory"   // in this process alone, as the policies want it
	BackendRedis    = "redis"    // shared by nodes, of at least one policy
	BackendFallback = "fallback" // ... but Redis was away for at least one of them
)

// backendNames are in the order of [backend].
var backendNames = [backends]string{BackendMemory, BackendRedis, BackendFallback}

// Health says how the limiter is.
func (l *Limiter) Health(context.Context) Health {
	h := Health{Since: l.made}
	for _, t := range l.totals {
		n := t.sum()
		h.TotalRequests += n.allowed + n.exceeded
	}
	if l.store != nil {
		s := l.store.Health()
		h.RedisConfigured, h.RedisAvailable, h.ConsecutiveFailures = true, s.Available, s.ConsecutiveFailures
		h.Breaker, h.BreakerSince, h.Nodes = s.Breaker, s.Since, l.store.Nodes()
	}
	return h
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
	set := l.set.Load()
	s := Stats{InvalidRequests: l.invalid.Load(), ActivePolicies: len(set.rules), Policies: []PolicyStats{}}
	var took time.Duration
	var timed uint64
	for b, requests := range [backends]*uint64{&s.MemoryRequests, &s.RedisRequests, &s.FallbackRequests} {
		n := l.totals[b].sum()
		*requests = n.allowed + n.exceeded
		s.AllowedRequests, s.ExceededRequests = s.AllowedRequests+n.allowed, s.ExceededRequests+n.exceeded
		took, timed = took+n.took, timed+n.timed
		if b == int(backendMemory) || l.store != nil {
			s.Backends = append(s.Backends, BackendStats{backendNames[b], n.allowed, n.exceeded})
		}
	}
	s.TotalRequests = s.AllowedRequests + s.ExceededRequests
	if timed > 0 {
		s.AverageLatencyMS = float64(took) / float64(timed) / float64(time.Millisecond)
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

// Durations tells how long decisions took, by backend: see [BackendMemory]. Without a store there is no other.
func (l *Limiter) Durations() map[string]Durations {
	all := map[string]Durations{}
	for b, t := range l.totals {
		if b == int(backendMemory) || l.store != nil {
			n := t.sum()
			all[backendNames[b]] = Durations{Bounds: slices.Clone(durationBounds[:]), Counts: n.durations[:], Sum: n.took}
		}
	}
	return all
}

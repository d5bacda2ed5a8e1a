package bench

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// How many prefixes and bans are measured.
const (
	prefixCount = 10_000
	banCount    = 1_000
)

// runLookups measures many sources under a policy with many prefixes, and beside many bans.
func (r *runner) runLookups(ctx context.Context) error {
	c, err := r.lookupContest()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return r.hold(ctx, c)
}

// lookupContest is to be closed even on an error.
func (r *runner) lookupContest() (*contest, error) {
	c := &contest{section: sectionLookup, traffic: Sources(r.many) + ", admitted"}
	cpus, err := lastCPUs(1)
	if err != nil {
		return c, err
	}
	usual := programLane{
		title: nameWeir, cpus: cpus, warmUp: 32 * int(r.many), leadIn: 2 * int(r.many), claim: all(policy.VerdictPass),
	}
	w, err := newWeir(generous(1), r.entries)
	if err := c.add(r.programLane(usual, r.many, w, err)); err != nil {
		return c, err
	}
	return c, errors.Join(r.addPrefixes(c, usual), r.addBans(c, usual))
}

// addPrefixes adds weir with a policy that matches some of the sources; the others pass uncounted.
func (r *runner) addPrefixes(c *contest, l programLane) error {
	prefixes, covered := lpmPrefixes(prefixCount, bits.Len64(r.many)-1)
	policies := generous(1)
	policies[0].Match.Sources = prefixes
	l.title = fmt.Sprintf("weir, %d prefixes", prefixCount)
	const tolerance = 0.02
	l.claim.low, l.claim.high = covered-tolerance, covered+tolerance
	c.comparisons = append(c.comparisons, costRatio(l.title, nameWeir, 0))
	w, err := newWeir(policies, r.entries)
	return c.add(r.programLane(l, r.many, w, err))
}

// addBans adds weir with bans, most of them of sources that do not send.
func (r *runner) addBans(c *contest, l programLane) error {
	l.title = fmt.Sprintf("weir, %d bans", banCount)
	w, err := newWeir(generous(1), r.entries)
	if err != nil {
		return err
	}
	c.comparisons = append(c.comparisons, costRatio(l.title, nameWeir, 0))
	return c.add(r.programLane(l, r.many, w, ban(w.Standalone)))
}

// ban bans the first addresses of every /24 from 10.0.0.0 on, of which the traffic has a few at most.
func ban(s *loader.Standalone) error {
	for i := range uint32(banCount) {
		source := netip.PrefixFrom(address4(10<<24+i<<8), 32)
		if err := s.Ban(source, time.Hour); err != nil {
			return fmt.Errorf("ban %s: %w", source, err)
		}
	}
	return nil
}

package bench

import (
	"context"
	"errors"

	"github.com/weir-limiter/weir/pkg/policy"
)

// targetTwoCPUs is how many times what one CPU gets through two have to, of one admitted source.
const targetTwoCPUs = 1.7

// runCPUs measures one source whose packets come in on two CPUs at once, beside the same on one.
func (r *runner) runCPUs(ctx context.Context) error {
	two, err := lastCPUs(2)
	if errors.Is(err, errTooFewCPUs) {
		r.leaveOut("two CPUs", err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	c, err := r.cpusContest(two)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return r.hold(ctx, c)
}

// cpusContest is to be closed even on an error. Every lane has a program of its own, so that none finds another's caches.
func (r *runner) cpusContest(two []int) (*contest, error) {
	const twoCPUs = ", two CPUs"
	c := &contest{section: sectionCPUs, traffic: "1 source, admitted", comparisons: []comparison{
		speedRatio(nameWeir+twoCPUs, nameWeir, targetTwoCPUs),
		speedRatio(nameBare+twoCPUs, nameBare, 0), // what the machine can do at best
	}}
	for _, n := range []int{1, 2} {
		suffix := []string{"", twoCPUs}[n-1]
		floor := programLane{title: nameBare + suffix, cpus: two[:n], claim: all(policy.VerdictDrop)}
		if err := c.add(r.programLane(floor, 1, bare{}, nil)); err != nil {
			return c, err
		}
		w, err := newWeir(generous(1), r.entries)
		l := programLane{title: nameWeir + suffix, cpus: two[:n], warmUp: warmUpOne, claim: all(policy.VerdictPass)}
		if err := c.add(r.programLane(l, 1, w, err)); err != nil {
			return c, err
		}
	}
	return c, nil
}

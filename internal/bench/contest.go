package bench

import (
	"context"
	"errors"
	"fmt"
)

// ErrVerdict says that a contender did something else with the packets than its row claims.
var ErrVerdict = errors.New("the row would measure something else")

// lane is one contender with its own traffic.
type lane interface {
	name() string
	// warm brings about the state that the row is about.
	warm(ctx context.Context) error
	// turn measures once, in ns per packet.
	turn() (float64, error)
	// verify holds what the contender did in all its turns against what the row claims. It fails with ErrVerdict; the other
	// fields are valid then as well.
	verify() (Measured, error)
	Close() error
}

// contest is one row: contenders on the same kind of traffic, and what is to be computed from their figures.
type contest struct {
	section     string
	traffic     string
	lanes       []lane
	comparisons []comparison
}

// add takes the lane over, unless there was an error with it.
func (c *contest) add(l lane, err error) error {
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.section, c.traffic, err)
	}
	c.lanes = append(c.lanes, l)
	return nil
}

func (c *contest) Close() error {
	var errs []error
	for _, l := range c.lanes {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// hold lets the contenders take turns, adds what came of it to the report, and closes them.
func (r *runner) hold(ctx context.Context, c *contest) (err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	samples, err := r.race(ctx, c)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.section, c.traffic, err)
	}
	row := Row{Section: c.section, Traffic: c.traffic}
	for i, l := range c.lanes {
		m, err := l.verify()
		if errors.Is(err, ErrVerdict) {
			m.Void = err.Error() // the others' figures are as good as they were
		} else if err != nil {
			return fmt.Errorf("%s, %s: %s: %w", c.section, c.traffic, l.name(), err)
		}
		m.Contender, m.NS = l.name(), Summarise(samples[i])
		row.Contenders = append(row.Contenders, m)
	}
	for _, comparison := range c.comparisons {
		if result := comparison.compute(&row, samples); result != nil {
			r.report.Comparisons = append(r.report.Comparisons, *result)
		}
	}
	r.report.Rows = append(r.report.Rows, row)
	return nil
}

// race returns ns per packet: for each lane the rounds. What disturbs the machine for longer than a round disturbs all lanes
// of it, and so no figure that is taken within one.
func (r *runner) race(ctx context.Context, c *contest) ([][]float64, error) {
	what := c.section + ", " + c.traffic
	r.progress(what, 0)
	for _, l := range c.lanes {
		if err := l.warm(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", l.name(), err)
		}
	}
	samples := make([][]float64, len(c.lanes))
	for round := range r.Rounds {
		for i, l := range c.lanes {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			ns, err := l.turn()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.name(), err)
			}
			samples[i] = append(samples[i], ns)
		}
		r.progress(what, round+1)
	}
	return samples, nil
}

func (r *runner) progress(what string, round int) {
	if r.Progress != nil {
		r.Progress(what, round, r.Rounds)
	}
}

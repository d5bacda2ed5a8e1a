package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-limiter/weir/pkg/policy"
)

// ErrVerdict says that a program did something else with the packets than the row claims.
var ErrVerdict = errors.New("the row would measure something else")

// minShare is how many of a row's packets have to meet their claimed fate.
const minShare = 0.99

// lane is one contender with its driver and what was measured of it.
type lane struct {
	contender
	driver  *driver
	expect  policy.Verdict
	before  tally
	samples []float64 // ns per packet
}

// newLane takes the contender over, and closes it if it fails.
func newLane(c contender, sources uint64, expect policy.Verdict) (*lane, error) {
	d, err := newDriver(sources, c.program())
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &lane{contender: c, driver: d, expect: expect}, nil
}

// Close unloads both.
func (l *lane) Close() error { return errors.Join(l.driver.Close(), l.contender.Close()) }

// warm runs packets on each CPU, not counted; what they bring about is the state that the row is about.
func (l *lane) warm(ctx context.Context, cpus []int, packets int) error {
	const slice = 1 << 20 // about a second at worst, so that Ctrl-C is not ignored for longer
	for ; packets > 0; packets -= slice {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err := onEach(cpus, func(int) error {
			_, _, err := l.driver.run(min(packets, slice))
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", l.name(), err)
		}
	}
	var err error
	l.before, err = l.tally()
	return err
}

// turn runs packets on all CPUs at once, and keeps the mean over the CPUs as a sample. leadIn packets run before, not
// counted, to fill the caches that another contender emptied.
func (l *lane) turn(cpus []int, leadIn, packets int) error {
	times := make([]float64, len(cpus))
	err := onEach(cpus, func(i int) error {
		if leadIn > 0 {
			if _, _, err := l.driver.run(leadIn); err != nil {
				return err
			}
		}
		perPacket, action, err := l.driver.run(packets)
		if err == nil && l.before == nil && action != xdpDrop {
			err = fmt.Errorf("%w: action %d, want a drop", ErrVerdict, action)
		}
		times[i] = float64(perPacket.Nanoseconds())
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", l.name(), err)
	}
	sum := 0.0
	for _, t := range times {
		sum += t
	}
	l.samples = append(l.samples, sum/float64(len(cpus)))
	return nil
}

// verify holds the program's own counters against what the row claims of at least so many packets.
func (l *lane) verify(packets int) (share float64, err error) {
	if l.before == nil {
		return 1, nil // it has no counters; turn looks at what it returns
	}
	after, err := l.tally()
	if err != nil {
		return 0, err
	}
	var all, met uint64
	for verdict, n := range after {
		all += n - l.before[verdict]
		if verdict == l.expect {
			met = n - l.before[verdict]
		}
	}
	if all < uint64(packets) {
		return 0, fmt.Errorf("%w: %s counted %d packets of %d", ErrVerdict, l.name(), all, packets)
	}
	share = float64(met) / float64(all)
	if share < minShare {
		return share, fmt.Errorf("%w: of %d packets, the verdict of %s on %.1f %% was %q; want %.0f %% or more",
			ErrVerdict, all, l.name(), 100*share, l.expect, 100*minShare)
	}
	return share, nil
}

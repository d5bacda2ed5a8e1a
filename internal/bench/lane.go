package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-limiter/weir/pkg/policy"
)

// minShare is how many of a row's packets have to meet their claimed fate.
const minShare = 0.99

// claim is what becomes of a row's packets.
type claim struct {
	verdict policy.Verdict
	// low and high bound the share of the packets that the program counts with that verdict.
	low, high float64
	// matching is how many policies count packets; 0: it is not asked.
	matching int
}

// all claims one verdict for practically every packet. A repeated run (see cilium/ebpf's RunOptions) makes more than all.
func all(v policy.Verdict) claim { return claim{verdict: v, low: minShare, high: 2} }

// programLane runs a program on a packet in memory.
type programLane struct {
	contender
	title  string
	driver *driver
	cpus   []int // all at once
	warmUp int   // packets until the state is what the row is about
	leadIn int   // packets before each turn, until the caches are warm again; 0: a turn's first few do it
	size   int   // packets of a turn, on each CPU
	claim  claim

	before tally
	turns  int
}

// programLane takes the contender over, unless there was an error with it. It fills in the driver and the size of a turn.
func (r *runner) programLane(l programLane, sources uint64, c contender, err error) (lane, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.title, err)
	}
	l.contender, l.size = c, r.Packets
	if l.driver, err = newDriver(sources, c.program()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &l, nil
}

func (l *programLane) name() string { return l.title }

// Close unloads the program and its driver.
func (l *programLane) Close() error { return errors.Join(l.driver.Close(), l.contender.Close()) }

// warm runs packets on each CPU, not counted.
func (l *programLane) warm(ctx context.Context) error {
	const slice = 1 << 20 // about a second at worst, so that Ctrl-C is not ignored for longer
	for packets := l.warmUp; packets > 0; packets -= slice {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		err := onEach(l.cpus, func(int) error {
			_, _, err := l.driver.run(min(packets, slice))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// turn runs packets on all CPUs at once, and returns the time from one packet to the next on any of them. The lead-in runs
// before, to fill the caches that another contender emptied.
func (l *programLane) turn() (float64, error) {
	var err error
	if l.before == nil {
		if l.before, err = l.tally(); err != nil {
			return 0, err
		}
	}
	rates := make([]float64, len(l.cpus))
	err = onEach(l.cpus, func(i int) error {
		if l.leadIn > 0 {
			if _, _, err := l.driver.run(l.leadIn); err != nil {
				return err
			}
		}
		perPacket, action, err := l.driver.run(l.size)
		if err == nil && l.before == nil && action != xdpDrop {
			err = fmt.Errorf("action %d, want a drop", action)
		}
		rates[i] = 1 / float64(perPacket.Nanoseconds())
		return err
	})
	if err != nil {
		return 0, err
	}
	l.turns++
	sum := 0.0
	for _, rate := range rates {
		sum += rate
	}
	return 1 / sum, nil
}

// verify reads the program's own counters.
func (l *programLane) verify() (Measured, error) {
	packets := uint64(l.turns * (l.leadIn + l.size) * len(l.cpus))
	if l.before == nil {
		return Measured{Packets: packets, Dropped: 1}, nil // it has no counters; turn looked at what it returned
	}
	after, err := l.tally()
	if err != nil {
		return Measured{}, err
	}
	passed := after[policy.VerdictPass] - l.before[policy.VerdictPass]
	dropped := after[policy.VerdictDrop] - l.before[policy.VerdictDrop]
	packets = max(packets, passed+dropped)
	m := Measured{Packets: packets, Dropped: float64(dropped) / float64(packets)}
	share := m.Dropped
	if l.claim.verdict == policy.VerdictPass {
		share = float64(passed) / float64(packets)
	}
	if share < l.claim.low || share > l.claim.high {
		return m, fmt.Errorf("%w: of %d packets, the verdict on %.1f %% was %q; want %.0f %% or more, and %.0f %% at most", ErrVerdict,
			packets, 100*share, l.claim.verdict, 100*l.claim.low, 100*min(1, l.claim.high))
	}
	return m, l.verifyMatching()
}

// verifyMatching counts the policies that counted.
func (l *programLane) verifyMatching() error {
	w, ok := l.contender.(*weir)
	if !ok || l.claim.matching == 0 {
		return nil
	}
	n, err := w.matching()
	if err == nil && n != l.claim.matching {
		err = fmt.Errorf("%w: %d policies matched, want %d", ErrVerdict, n, l.claim.matching)
	}
	return err
}

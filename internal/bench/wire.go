package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/internal/lab"
)

// wire is a lane of live frames: a cable of its own between two namespaces, a sender at one end and a limiter at the other. One
// CPU does the work of both ends, in turn: it fills the receiver's ring with a batch, and then empties it.
type wire struct {
	title   string
	pair    *lab.Pair
	sender  *sender
	limiter limiter

	forget func()        // makes the limiter forget all sources before a turn; nil: it goes on knowing them
	learn  time.Duration // of sending, until the sources are known; 0: they need not be
	leadIn int           // frames at the start of a turn, until buckets and caches are as they stay
	size   int           // frames to measure
	admits admission

	before reading // after the warm-up
	sent   uint64
	turns  int
	total  time.Duration // of sending, lead-ins included
}

// admission is how much of the traffic a limiter ought to let through. The zero value: that is not known.
type admission struct {
	// burst and rate are frames and frames a second, of all sources together.
	burst, rate float64
	// least tells that all of rate is to be admitted, if so much comes.
	least bool
}

// attacher makes the limiter of a wire at its receiving end.
type attacher func(h *lab.Host, s *sender) (limiter, error)

// newWire plugs a wire together. It has one queue: that of one CPU.
func newWire(ctx context.Context, title string, sources uint64, cpu int, attach attacher) (_ *wire, err error) {
	w := &wire{title: title}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.pair, err = lab.NewPair(ctx, lab.PairSpec{Queues: 1}); err != nil {
		return nil, err
	}
	if w.sender, err = newSender(w.pair.A, sources, cpu); err != nil {
		return nil, err
	}
	w.limiter, err = attach(w.pair.B, w.sender)
	return w, err
}

func (w *wire) name() string { return w.title }

// Close takes the wire apart.
func (w *wire) Close() error {
	var errs []error
	if w.limiter != nil {
		errs = append(errs, w.limiter.Close())
	}
	if w.sender != nil {
		errs = append(errs, w.sender.Close())
	}
	if w.pair != nil {
		errs = append(errs, w.pair.Close())
	}
	return errors.Join(errs...)
}

// warm runs one turn that is not counted, and before it what the limiter needs to know its sources.
func (w *wire) warm(ctx context.Context) error {
	const batch = 1 << 18 // to begin and to end one takes as long as a tenth of it
	for total := time.Duration(0); total < w.learn; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		s, err := w.sender.send(0, batch)
		if err != nil {
			return err
		}
		total += s.total
	}
	if _, err := w.sender.send(w.leadIn, w.size); err != nil {
		return err
	}
	var err error
	w.before, err = w.read()
	return err
}

// reading is what the receiving end has counted so far.
type reading struct{ processed, limited, admitted uint64 }

func (w *wire) read() (r reading, err error) {
	if r.limited, r.admitted, err = w.limiter.counts(); err != nil {
		return r, err
	}
	c, err := w.pair.B.Counters()
	r.processed = c.Received
	return r, err
}

// turn measures the time from one frame to the next, of those that were processed.
func (w *wire) turn() (float64, error) {
	before, err := w.pair.B.Counters()
	if err != nil {
		return 0, err
	}
	if w.forget != nil {
		w.forget()
	}
	s, err := w.sender.send(w.leadIn, w.size)
	if err != nil {
		return 0, err
	}
	after, err := w.pair.B.Counters()
	if err != nil {
		return 0, err
	}
	w.turns++
	w.sent += s.frames
	w.total += s.total
	processed := after.Received - before.Received
	if processed == 0 {
		return 0, fmt.Errorf("none of %d frames arrived", s.frames)
	}
	return s.perFrame * float64(s.frames) / float64(processed), nil
}

// verify holds the sender's count, the interface's and the limiter's against each other, and what was admitted against what
// ought to be.
func (w *wire) verify() (Measured, error) {
	now, err := w.read()
	if err != nil {
		return Measured{}, err
	}
	processed, admitted := now.processed-w.before.processed, now.admitted-w.before.admitted
	counted := admitted + now.limited - w.before.limited
	m := Measured{
		Packets: processed, Lost: w.sent - min(w.sent, processed),
		Dropped: 1 - float64(admitted)/float64(max(processed, 1)),
	}
	if float64(processed) < minShare*float64(w.sent) {
		return m, fmt.Errorf("%w: of %d frames sent %d were processed", ErrVerdict, w.sent, processed)
	}
	if w.admits == (admission{}) {
		return m, nil
	}
	if float64(counted) < minShare*float64(processed) {
		return m, fmt.Errorf("%w: of %d frames processed %d came to the limiter", ErrVerdict, processed, counted)
	}
	return m, w.admits.check(w.turns, w.total, processed, admitted)
}

// check holds what was admitted in all turns, which took so long together, against what ought to be. Between turns bursts come
// back.
func (a admission) check(turns int, total time.Duration, processed, admitted uint64) error {
	const tolerance, slack = 0.25, 10 // slack for few sources: a second begins when it likes
	most := (1+tolerance)*(float64(turns)*a.burst+a.rate*total.Seconds()) + slack
	least := 0.0
	if a.least {
		least = (1-tolerance)*min(float64(processed), a.rate*total.Seconds()) - slack
	}
	if n := float64(admitted); n > most || n < least {
		return fmt.Errorf("%w: in %v it admitted %d of %d frames, want %.0f to %.0f", ErrVerdict,
			total.Round(time.Millisecond), admitted, processed, max(least, 0), most)
	}
	return nil
}

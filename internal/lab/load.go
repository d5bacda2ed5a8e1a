package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// ErrUnbounded refuses a load that would never end by itself.
var ErrUnbounded = errors.New("load has neither count nor duration")

// ErrRate refuses a rate that is negative, infinite or not a number.
var ErrRate = errors.New("invalid rate")

// Load bounds and paces a sender. Whichever of Count and Duration is reached first ends it; one of them is required.
type Load struct {
	Rate     float64       // per second; 0 means as fast as it goes
	Count    uint64        // how many to send; 0 means no limit
	Duration time.Duration // how long to send; 0 means no limit
}

// Validate reports why the load cannot run: [ErrUnbounded] or [ErrRate].
func (l Load) Validate() error {
	if l.Rate < 0 || math.IsInf(l.Rate, 0) || math.IsNaN(l.Rate) {
		return fmt.Errorf("%w: %v", ErrRate, l.Rate)
	}
	if l.Count == 0 && l.Duration <= 0 {
		return ErrUnbounded
	}
	return nil
}

// Counters say how far a sender got. They may be read at any time.
type Counters struct{ sent, failed atomic.Uint64 }

// Sent is how many the kernel took, which is not yet how many arrived.
func (c *Counters) Sent() uint64 { return c.sent.Load() }

// Failed is how many the kernel refused, or for [TCPClient] got no answer.
func (c *Counters) Failed() uint64 { return c.failed.Load() }

const (
	// tick is how often a fast sender wakes; Go's timers are no finer than about that.
	tick = time.Millisecond
	// burst bounds what is sent in one go after the sender was kept from running, as a time at the load's rate. Twice
	// the usual lateness of a timer, so that the mean is kept, and no more, since the receiver's queues are short.
	burst = 4 * time.Millisecond
	// patience is how far behind a sender that waits for answers may be and still make up for it: more than a busy
	// machine delays it, and less than an answer that does not come.
	patience = 100 * time.Millisecond
	// grace is for how long after its duration a load may make up for what it is behind.
	grace = 20 * time.Millisecond
)

// pacer is the schedule of a load: number k is due at start + k/rate, however late those before it were. It decides by
// the time that it is given.
type pacer struct {
	rate  float64 // 0: everything is due at once
	start time.Time
	total uint64 // after which nothing is due
	most  uint64 // in one go
	sent  uint64
	last  time.Time // when something was last due
}

func newPacer(l Load, start time.Time) *pacer {
	p := &pacer{rate: l.Rate, start: start, total: math.MaxUint64, most: batchSize}
	if l.Count > 0 {
		p.total = l.Count
	}
	if l.Rate > 0 {
		p.most = max(1, uint64(l.Rate*burst.Seconds()))
		if l.Duration > 0 {
			p.total = min(p.total, uint64(math.Ceil(l.Rate*l.Duration.Seconds())))
		}
	}
	return p
}

// due takes from the schedule what is to be sent now, or if that is nothing, says how long to wait.
func (p *pacer) due(now time.Time) (n uint64, wait time.Duration) {
	if p.rate == 0 {
		n = min(p.most, p.total-p.sent)
		p.sent += n
		return n, 0
	}
	if rest := tick - now.Sub(p.last); rest > 0 {
		return 0, rest
	}
	elapsed := now.Sub(p.start)
	target := min(p.total, uint64(elapsed.Seconds()*p.rate)+1)
	if target <= p.sent {
		return 0, max(p.next()-elapsed, tick)
	}
	n = min(p.most, target-p.sent)
	p.sent += n
	p.last = now
	return n, 0
}

// next is when the next one is due, since the start.
func (p *pacer) next() time.Duration {
	return time.Duration(float64(p.sent) / p.rate * float64(time.Second))
}

// forgive moves the schedule so that what became due in a long wait is forgotten.
func (p *pacer) forgive(now time.Time) {
	if p.rate == 0 {
		return
	}
	if behind := now.Sub(p.start) - p.next(); behind > patience {
		p.start = p.start.Add(behind)
	}
}

// run calls send with how many are due until the load is complete or ctx done. It returns send's error only.
func (l Load) run(ctx context.Context, send func(n int) error) error {
	return l.pace(ctx, false, send)
}

// runPatiently is run for a sender that waits for an answer: what became due meanwhile it does not make up for.
func (l Load) runPatiently(ctx context.Context, send func(n int) error) error {
	return l.pace(ctx, true, send)
}

func (l Load) pace(ctx context.Context, patient bool, send func(n int) error) error {
	if err := l.Validate(); err != nil {
		return err
	}
	start := time.Now()
	p := newPacer(l, start)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p.sent < p.total && ctx.Err() == nil {
		now := time.Now()
		if l.Duration > 0 && now.Sub(start) > l.Duration+l.grace() {
			return nil
		}
		if patient {
			p.forgive(now)
		}
		n, wait := p.due(now)
		if n > 0 {
			if err := send(int(n)); err != nil {
				return err
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	return nil
}

func (l Load) grace() time.Duration {
	if l.Rate == 0 {
		return 0
	}
	return grace
}

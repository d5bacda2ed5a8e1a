package lab

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestLoadValidate(t *testing.T) {
	for _, c := range []struct {
		load Load
		want error
	}{
		{Load{}, ErrUnbounded},
		{Load{Rate: 10}, ErrUnbounded},
		{Load{Rate: -1, Count: 1}, ErrRate},
		{Load{Rate: math.NaN(), Count: 1}, ErrRate},
		{Load{Rate: math.Inf(1), Count: 1}, ErrRate},
		{Load{Count: 1}, nil},
		{Load{Duration: 1}, nil},
	} {
		if err := c.load.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.load, err, c.want)
		}
	}
}

// The clock of this test is a number: timers are late by up to 3 ms, and once by 50 ms.
func TestPacerKeepsTheMean(t *testing.T) {
	for _, rate := range []float64{10, 999, 10_000, 250_000, 1_000_000} {
		random := rand.New(rand.NewPCG(1, 2))
		start := time.Unix(1000, 0)
		p := newPacer(Load{Rate: rate, Duration: 10 * time.Second}, start)
		var sent, largest uint64
		for now := start; now.Before(start.Add(10 * time.Second)); {
			n, wait := p.due(now)
			sent += n
			largest = max(largest, n)
			if n > 0 {
				continue // not before a tick has passed does it get more
			}
			now = now.Add(wait + time.Duration(random.Int64N(int64(3*time.Millisecond))))
			if at := now.Sub(start); at > 5*time.Second && at < 5003*time.Millisecond {
				now = now.Add(50 * time.Millisecond)
			}
		}
		if got := float64(sent) / 10; math.Abs(got-rate) > rate*0.02+0.2 {
			t.Errorf("rate %.0f: %.1f in the mean", rate, got)
		}
		if bound := max(1, uint64(rate*burst.Seconds())); largest > bound {
			t.Errorf("rate %.0f: a burst of %d, at most %d", rate, largest, bound)
		}
	}
}

func TestPacerRestsBetweenBursts(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPacer(Load{Rate: 100_000, Count: 1_000_000}, now)
	now = now.Add(time.Second) // far behind
	if n, _ := p.due(now); n != 400 {
		t.Errorf("first burst of %d, want 400", n)
	}
	if n, wait := p.due(now.Add(300 * time.Microsecond)); n != 0 || wait != 700*time.Microsecond {
		t.Errorf("%d more, wait %v, want to wait 700µs", n, wait)
	}
	if n, _ := p.due(now.Add(tick)); n != 400 {
		t.Errorf("next burst of %d, want 400", n)
	}
}

func TestPacerForgivesALongWait(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPacer(Load{Rate: 10, Count: 100}, now)
	p.due(now)
	now = now.Add(10 * time.Second)
	p.forgive(now)
	if n, _ := p.due(now); n != 1 {
		t.Errorf("%d due after a long wait, want 1", n)
	}
	if n, wait := p.due(now.Add(tick)); n != 0 || wait < 90*time.Millisecond {
		t.Errorf("%d more due, wait %v, want the next in 100 ms", n, wait)
	}
}

func TestLoadEndsByItself(t *testing.T) {
	for name, c := range map[string]struct {
		load Load
		want uint64 // 0: some
	}{
		"count":             {Load{Count: 100}, 100},
		"rate and count":    {Load{Rate: 10_000, Count: 100}, 100},
		"rate and duration": {Load{Rate: 1000, Duration: 50 * time.Millisecond}, 50},
		"duration":          {Load{Duration: 5 * time.Millisecond}, 0},
	} {
		var sent uint64
		err := c.load.run(testContext(t), func(n int) error { sent += uint64(n); return nil })
		if err != nil || sent == 0 || c.want > 0 && sent != c.want {
			t.Errorf("%s: sent %d, %v, want %d", name, sent, err, c.want)
		}
	}
}

func TestLoadStops(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	err := Load{Rate: 1, Count: 1000}.run(ctx, func(int) error { cancel(); return nil })
	if err != nil {
		t.Errorf("stopped by its context: %v", err)
	}
	failure := errors.New("failure")
	if err := (Load{Count: 2}).run(t.Context(), func(int) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("a failing send gives %v", err)
	}
}

// The sum of the timers' lateness must not show; the machine being busy elsewhere may cost one attempt.
func TestPacingOverASecond(t *testing.T) {
	const rate = 10_000
	var off float64
	for range 3 {
		start, sent := time.Now(), 0
		if err := (Load{Rate: rate, Duration: time.Second}).run(testContext(t), func(n int) error { sent += n; return nil }); err != nil {
			t.Fatal(err)
		}
		off = math.Abs(float64(sent)/time.Since(start).Seconds()/rate - 1)
		if off <= 0.02 {
			return
		}
	}
	t.Errorf("off by %.1f %%, want at most 2 %%", off*100)
}

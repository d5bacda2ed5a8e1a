package fallback_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/fallback"
)

// model is what a guard should be, told of each thing in the order in which it happened: the store's answers, not the time.
type model struct {
	failures, halfOpen uint32
	openFor            time.Duration

	ready    bool
	failed   uint32    // in a row, while ready
	good     uint32    // probes in a row, while away
	opened   time.Time // the breaker, last
	away     int       // times that the store went away
	backs    int
	firstWas bool
}

// call is what came of a call that went through.
func (m *model) call(err error) {
	switch {
	case !m.ready || errors.Is(err, context.Canceled):
	case fallback.IsFailure(err):
		m.oneMore()
	default:
		m.failed = 0
	}
}

func (m *model) oneMore() {
	if m.failed++; m.failed >= m.failures {
		m.open()
	}
}

func (m *model) open() {
	if m.ready || !m.firstWas {
		m.away++
	}
	m.ready, m.firstWas, m.failed, m.good, m.opened = false, true, 0, 0, time.Now()
}

// probe is what came of a probe.
func (m *model) probe(err error) {
	if !fallback.IsFailure(err) && !errors.Is(err, context.Canceled) {
		err = nil // the store answered
	}
	switch {
	case err == nil && !m.ready:
		m.good++
	case err != nil && m.ready:
		m.oneMore()
	case err != nil && !m.firstWas:
		m.open()
	case err != nil:
		m.good = 0
	}
}

// recover is what came of a recovery; it says what is wrong with its time.
func (m *model) recover(err error) (wrong string) {
	switch {
	case m.ready:
		return "recovered while ready"
	case m.firstWas && m.good < m.halfOpen+1: // one finds it, the others try it out
		return "recovered after too few probes"
	case m.firstWas && time.Since(m.opened) < m.openFor:
		return "recovered before the pause was over"
	case err != nil:
		m.open()
		return ""
	}
	if m.firstWas {
		m.backs++
	}
	m.ready, m.firstWas, m.failed, m.good = true, true, 0, 0
	return ""
}

// wants compares a guard with the model.
func (m *model) wants(g *fallback.Guard) string {
	s := g.State()
	switch {
	case s.Available != m.ready || g.Ready() != m.ready:
		return "is ready or not"
	case (s.Breaker == "closed") != m.ready:
		return "the breaker's state"
	case s.Opened != uint64(m.away) || s.Backs != uint64(m.backs):
		return "the number of times it was away"
	case m.ready && s.ConsecutiveFailures != uint64(m.failed):
		return "the number of failures"
	}
	return ""
}

var errHung = errors.New("no answer")

// answers are what a store may say; nil is well.
var answers = []error{nil, nil, nil, errRefused, redisError("LOADING"), redisError("WRONGTYPE"), context.Canceled, errHung}

// script drives a guard and its model through what draw decides: a number from 0 to n-1, where name says what for.
func script(fatal func(string, ...any), steps int, draw func(name string, n int) int) {
	o := fallback.Options{
		Failures: uint32(1 + draw("failures", 4)), HalfOpenRequests: uint32(1 + draw("half-open", 3)),
		OpenFor: []time.Duration{time.Millisecond, time.Second, 7 * time.Second}[draw("open for", 3)],
		Timeout: 100 * time.Millisecond, RecoverTimeout: 200 * time.Millisecond, Interval: 3 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
	m := &model{failures: o.Failures, halfOpen: o.HalfOpenRequests, openFor: o.OpenFor}
	var probed, recovered error // what the store will say
	wrong := ""
	say := func(ctx context.Context, err error) error {
		if errors.Is(err, errHung) {
			<-ctx.Done()
			return ctx.Err()
		}
		return err
	}
	// The loop and the script never run at the same time, as the one waits while the other runs; the lock tells the race
	// detector.
	var mu sync.Mutex
	locked := func(f func()) { mu.Lock(); defer mu.Unlock(); f() }
	o.Probe = func(ctx context.Context) error {
		var err error
		locked(func() { err = probed })
		err = say(ctx, err)
		mu.Lock()
		defer mu.Unlock()
		if !errors.Is(ctx.Err(), context.Canceled) {
			m.probe(err)
		}
		return err
	}
	o.Recover = func(ctx context.Context) error {
		var err error
		locked(func() { err = recovered })
		err = say(ctx, err)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		if problem := m.recover(err); problem != "" {
			wrong = problem
		}
		return err
	}
	var events []string
	o.Alert = func(a fallback.Alert) { events = append(events, a.Event) }
	g, err := fallback.New(o)
	if err != nil {
		fatal("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for step := range steps {
		switch draw("step", 5) {
		case 0:
			locked(func() { probed = answers[draw("probe", len(answers))] })
		case 1:
			locked(func() { recovered = answers[draw("recovery", len(answers))] })
		case 2:
			time.Sleep([]time.Duration{time.Millisecond, 60 * time.Millisecond, 700 * time.Millisecond, 20 * time.Second}[draw("wait", 4)])
		default:
			err := answers[draw("call", len(answers)-1)]
			ready := false
			locked(func() { ready = m.ready })
			got := g.Do(ctx, func(context.Context) error { locked(func() { m.call(err) }); return err })
			if want := map[bool]error{true: err, false: fallback.ErrAway}[ready]; !errors.Is(got, want) {
				fatal("step %d: a call got %v, want %v", step, got, want)
			}
		}
		synctest.Wait()
		locked(func() {
			if problem := m.wants(g); problem != "" || wrong != "" {
				fatal("step %d: %s%s differs: %+v, model %+v", step, problem, wrong, g.State(), *m)
			}
		})
	}
	// Whatever happened: once the store is well it is soon back.
	locked(func() { probed, recovered = nil, nil })
	time.Sleep(o.OpenFor + 2*time.Second)
	synctest.Wait()
	if !g.Ready() {
		fatal("the store is well, and still away: %+v", g.State())
	}
	for i, e := range events {
		if want := []string{fallback.StoreAway, fallback.StoreBack}[i%2]; e != want {
			fatal("the events are %v", events)
		}
	}
	if len(events) != m.away+m.backs {
		fatal("%d events, %d away, %d back", len(events), m.away, m.backs)
	}
}

func TestGuardLikeItsModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// No deadline: within a bubble it can't be asked for.
		rapid.Check(struct{ testing.TB }{t}, func(r *rapid.T) {
			script(r.Fatalf, 60, func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(r, name) })
		})
	})
}

func FuzzGuard(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 3, 3, 3, 2, 1, 0, 3, 2, 3})
	f.Add([]byte{3, 1, 1, 0, 7, 2, 3, 1, 7, 2, 3, 0, 0, 2, 3})
	f.Fuzz(func(t *testing.T, odd []byte) {
		synctest.Test(t, func(t *testing.T) {
			script(t.Fatalf, min(len(odd), 200), func(_ string, n int) int {
				if len(odd) == 0 {
					return 0
				}
				b := int(odd[0])
				odd = odd[1:]
				return b % n
			})
		})
	})
}

package fallback_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/weir-limiter/weir/pkg/fallback"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	goleak.VerifyTestMain(m)
}

func TestAwayAfterFailuresAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Failures: 5})
		defer r.stop()
		r.want(t, "closed", true)
		if probes, recovers := r.store.counts(); probes != 1 || recovers != 1 {
			t.Fatalf("at the start %d probes and %d recoveries, want 1 and 1", probes, recovers)
		}
		r.store.set(func(s *store) { s.err = redisError("READONLY You can't write against a read only replica.") })
		// Without waiting: the probes that failures cause have no say yet.
		r.fail(t, 5, redisError("READONLY You can't write against a read only replica."))
		r.want(t, "open", false)
		called := false
		if err := r.Do(context.Background(), func(context.Context) error { called = true; return nil }); !errors.Is(err, fallback.ErrAway) || called {
			t.Fatalf("a call while away: %v, called %v", err, called)
		}
		time.Sleep(10 * time.Second)
		r.want(t, "open", false)
		r.store.set(func(s *store) { s.err = nil })
		if took := r.becomes(t, true); took > 600*time.Millisecond {
			t.Errorf("back %v after the store's return", took)
		}
		r.want(t, "closed", true)
		s := r.State()
		if s.Opened != 1 || s.Backs != 1 || s.ConsecutiveFailures != 0 || s.LastError != fallback.Readonly {
			t.Errorf("state %+v", s)
		}
		if len(r.alerts) != 2 || r.alerts[0].Event != fallback.StoreAway || r.alerts[1].Event != fallback.StoreBack {
			t.Fatalf("alerts %+v", r.alerts)
		}
		away, again := r.alerts[0], r.alerts[1]
		if away.ConsecutiveFailures < 5 || away.Reason != "readonly" || away.Instance != "node-1" || away.Duration != 0 {
			t.Errorf("%+v", away)
		}
		if !again.Since.Equal(away.Since) || time.Duration(again.Duration) < 10*time.Second || again.ConsecutiveFailures <= away.ConsecutiveFailures {
			t.Errorf("%+v after %+v", again, away)
		}
		if lines := strings.Count(r.log.String(), "\n"); lines != 2 {
			t.Errorf("%d lines of log:\n%s", lines, r.log.String())
		}
	})
}

func TestStartWithoutTheStore(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*store)
		within time.Duration
		class  fallback.Class
	}{
		{"refused", func(s *store) { s.err = errRefused }, 0, fallback.Refused},
		{"silent", func(s *store) { s.hang = true }, 100 * time.Millisecond, fallback.Timeout},
		{"recovery hangs", func(s *store) { s.hangRec = true }, 100 * time.Millisecond, fallback.Timeout},
		{"recovery fails", func(s *store) { s.recover = redisError("OOM command not allowed") }, 0, fallback.OutOfMemory},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var st store
				c.change(&st)
				g, err := fallback.New(fallback.Options{Probe: st.probe, Recover: st.regain, Timeout: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				if g.Ready() || g.State().Breaker != "open" {
					t.Errorf("ready before the start: %+v", g.State())
				}
				began := time.Now()
				if g.Start(context.Background()) || time.Since(began) != c.within {
					t.Errorf("started %v after %v, want away after %v", g.Ready(), time.Since(began), c.within)
				}
				if s := g.State(); s.Breaker != "open" || s.LastError != c.class || s.Opened != 1 || s.ConsecutiveFailures != 1 {
					t.Errorf("%+v", s)
				}
				st.set(func(s *store) { s.err, s.hang, s.recover, s.hangRec = nil, false, nil, false })
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error)
				go func() { done <- g.Run(ctx) }()
				time.Sleep(1500 * time.Millisecond)
				if !g.Ready() {
					t.Errorf("still away: %+v", g.State())
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestStartCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var st store
		g, err := fallback.New(fallback.Options{Probe: func(ctx context.Context) error { st.probe(ctx); return ctx.Err() }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		g.Start(ctx)
		ctx, cancel = context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		time.Sleep(2 * time.Second)
		if !g.Ready() {
			t.Errorf("a start that was called off keeps the store away: %+v", g.State())
		}
		if err := g.Run(ctx); err == nil {
			t.Error("a second Run at the same time")
		}
		cancel()
		<-done
	})
}

// What is said of one key, or by the caller's own impatience, opens nothing.
func TestWhatIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{})
		defer r.stop()
		for range 20 {
			r.fail(t, 1, redisError("WRONGTYPE Operation against a key holding the wrong kind of value"))
			r.fail(t, 1, redisError("redis: nil"))
			r.fail(t, 1, fmt.Errorf("called off: %w", context.Canceled))
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_ = r.Do(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			cancel()
		}
		r.want(t, "closed", true)
		if s := r.State(); s.ConsecutiveFailures != 0 || s.LastError != fallback.None {
			t.Errorf("%+v", s)
		}
		if probes, _ := r.store.counts(); probes < 2 {
			t.Errorf("%d probes: callers that gave up make nobody look", probes)
		}
	})
}

// A store that hangs is found out even if all callers are more impatient than its timeout.
func TestImpatientCallersOfAFrozenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Timeout: 50 * time.Millisecond})
		defer r.stop()
		r.store.set(func(s *store) { s.hang = true })
		began := time.Now()
		for r.Ready() && time.Since(began) < 10*time.Second {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_ = r.Do(ctx, r.store.ask)
			cancel()
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("away after %v", took)
		}
	})
}

func TestSuccessBetweenFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Failures: 3})
		defer r.stop()
		for range 50 {
			r.fail(t, 2, errRefused)
			r.fail(t, 1, nil)
		}
		r.want(t, "closed", true)
		r.fail(t, 2, errRefused)
		time.Sleep(time.Minute) // probes that are answered do not make good for calls that are not
		r.want(t, "closed", true)
		r.fail(t, 1, errRefused)
		r.want(t, "open", false)
	})
}

// An idle guard finds out by itself, and soon after the first doubt.
func TestProbesWhileClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Interval: 30 * time.Second})
		defer r.stop()
		began := time.Now()
		time.Sleep(5 * time.Minute)
		if probes, _ := r.store.counts(); probes != 1+9 && probes != 1+10 {
			t.Errorf("%d probes in %v", probes, time.Since(began))
		}
		r.store.set(func(s *store) { s.err = errRefused })
		r.fail(t, 1, errRefused)
		if took := r.becomes(t, false); took > time.Second {
			t.Errorf("one call failed, and the store was away only %v later", took)
		}
	})
}

// Calls that fail now and then do not make a storm of probes.
func TestProbesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{})
		defer r.stop()
		for range 1000 {
			r.fail(t, 1, errRefused)
			r.fail(t, 1, nil)
			time.Sleep(time.Millisecond)
		}
		if probes, _ := r.store.counts(); probes > 25 {
			t.Errorf("%d probes in a second", probes)
		}
	})
}

func TestBackoffWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, fallback.Options{})
		defer r.stop()
		var gaps []time.Duration
		at := func() (last time.Time) { r.store.set(func(s *store) { last = s.last }); return }
		last := at()
		for began := time.Now(); time.Since(began) < 20*time.Second; {
			time.Sleep(time.Millisecond)
			if now := at(); now != last {
				gaps = append(gaps, now.Sub(last))
				last = now
			}
		}
		if gaps[0] < 40*time.Millisecond || gaps[0] > 60*time.Millisecond {
			t.Errorf("the first pause is %v", gaps[0])
		}
		same := true
		for i, gap := range gaps {
			if gap > 500*time.Millisecond || (i > 4 && gap < 330*time.Millisecond) {
				t.Errorf("pause %d is %v", i, gap)
			}
			same = same && (i < 6 || gap == gaps[5])
		}
		if same {
			t.Error("no jitter")
		}
	})
}

// A recovery that fails or hangs keeps the store away, and calls do not slip in while it lasts.
func TestRecoverHoldsTheDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Failures: 1, RecoverTimeout: 300 * time.Millisecond, HalfOpenRequests: 2})
		defer r.stop()
		r.store.set(func(s *store) { s.hangRec = true })
		r.fail(t, 1, errRefused)
		seen := map[string]bool{}
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
			seen[r.State().Breaker] = true
			if r.Ready() {
				t.Fatal("ready while nothing was recovered")
			}
			if err := r.Do(context.Background(), func(context.Context) error { return nil }); !errors.Is(err, fallback.ErrAway) {
				t.Fatal(err)
			}
		}
		if !seen["open"] || !seen["half-open"] || seen["closed"] {
			t.Errorf("seen %v", seen)
		}
		r.store.set(func(s *store) { s.hangRec, s.recover = false, redisError("NOAUTH Authentication required.") })
		time.Sleep(5 * time.Second)
		if s := r.State(); s.Available || s.LastError != fallback.Unauthorized {
			t.Errorf("%+v", s)
		}
		synctest.Wait()
		if s := r.State(); s.Opened != 1 || len(r.alerts) != 1 {
			t.Errorf("opened %d times, %d alerts: attempts that fail are no news", s.Opened, len(r.alerts))
		}
		r.store.set(func(s *store) { s.recover = nil })
		time.Sleep(2 * time.Second)
		r.want(t, "closed", true)
	})
}

func TestNotBeforeThePauseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Failures: 1, OpenFor: 5 * time.Second})
		defer r.stop()
		before, _ := r.store.counts()
		r.fail(t, 1, errRefused) // the store itself is well
		time.Sleep(5 * time.Second)
		r.want(t, "open", false)
		time.Sleep(10 * time.Millisecond)
		r.want(t, "closed", true)
		if after, recovers := r.store.counts(); after-before != 4 || recovers != 2 {
			t.Errorf("%d probes and %d recoveries, want 4 and 2", after-before, recovers)
		}
	})
}

func TestRampLetsKeysInForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, true, fallback.Options{Ramp: 10 * time.Second})
		defer r.stop()
		if !r.Admits(7) {
			t.Error("no ramp, and a key is not admitted")
		}
		r.store.set(func(s *store) { s.err = nil })
		r.becomes(t, true)
		const keys = 20000
		random := rand.New(rand.NewPCG(1, 2))
		hashes := make([]uint64, keys)
		for i := range hashes {
			hashes[i] = random.Uint64()
		}
		in := make([]bool, keys)
		for step := range 11 {
			n := 0
			for i, h := range hashes {
				admitted := r.Admits(h)
				if in[i] && !admitted {
					t.Fatalf("step %d: a key that was in is out", step)
				}
				if in[i] = admitted; admitted {
					n++
				}
			}
			if share, want := float64(n)/keys, float64(step)/10; share < want-0.015 || share > want+0.015 {
				t.Errorf("after %ds %.3f of all keys are admitted, want %.1f", step, share, want)
			}
			time.Sleep(time.Second)
		}
		for i, h := range hashes {
			if !r.Admits(h) {
				t.Fatalf("key %d is not admitted after the ramp", i)
			}
		}
	})
}

func TestFirstStartHasNoRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Ramp: time.Hour})
		defer r.stop()
		for h := range uint64(1000) {
			if !r.Admits(h << 50) {
				t.Fatal("not admitted")
			}
		}
		synctest.Wait()
		if len(r.alerts) != 0 || r.log.Len() != 0 {
			t.Errorf("told of a start as it should be: %v %s", r.alerts, r.log.String())
		}
	})
}

func TestDoAllocatesNothing(t *testing.T) {
	var st store
	g, err := fallback.New(fallback.Options{Probe: st.probe})
	if err != nil {
		t.Fatal(err)
	}
	f := func(context.Context) error { return nil }
	if n := testing.AllocsPerRun(100, func() { _ = g.Do(context.Background(), f) }); n != 0 {
		t.Errorf("%v allocations while away", n)
	}
	g.Start(context.Background())
	if n := testing.AllocsPerRun(100, func() { _ = g.Do(context.Background(), f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { g.Admits(3) }); n != 0 {
		t.Errorf("%v allocations of Admits", n)
	}
}

func TestPanicIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Failures: 1})
		defer r.stop()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is gone")
				}
			}()
			_ = r.Do(context.Background(), func(context.Context) error { panic("x") })
		}()
		r.want(t, "open", false)
	})
}

func TestOptions(t *testing.T) {
	probe := func(context.Context) error { return nil }
	for name, o := range map[string]fallback.Options{
		"Probe":            {},
		"OpenFor":          {Probe: probe, OpenFor: -1},
		"Ramp":             {Probe: probe, Ramp: -time.Second},
		"Failures":         {Probe: probe, Failures: 1001},
		"HalfOpenRequests": {Probe: probe, HalfOpenRequests: 1 << 31},
	} {
		if _, err := fallback.New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many callers, a store that comes and goes, by real time: for the race detector, and that no goroutine is left.
func TestStorm(t *testing.T) {
	var st store
	g, err := fallback.New(fallback.Options{
		Probe: st.probe, Recover: st.regain, Failures: 2, OpenFor: time.Millisecond, Interval: time.Millisecond, Timeout: 5 * time.Millisecond,
		Ramp: 5 * time.Millisecond, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = g.Run(ctx) })
	var away, calls atomic.Uint64
	for i := range 16 {
		all.Go(func() {
			for n := uint64(i); ctx.Err() == nil; n++ {
				if g.Ready() && g.Admits(n*0x9e3779b97f4a7c15) {
					if errors.Is(g.Do(ctx, st.ask), fallback.ErrAway) {
						away.Add(1)
					}
					calls.Add(1)
				}
				_ = g.State()
			}
		})
	}
	until := time.Now().Add(10 * time.Second)
	for round := 0; g.State().Backs < 5 && time.Now().Before(until); round++ {
		st.set(func(s *store) { s.err = []error{errRefused, nil}[round%2] })
		want := round%2 == 1
		for g.Ready() != want && time.Now().Before(until) {
			time.Sleep(100 * time.Microsecond)
		}
	}
	cancel()
	all.Wait()
	if s := g.State(); s.Backs < 5 || calls.Load() == 0 {
		t.Errorf("%+v after %d calls", s, calls.Load())
	}
}

// TestSuspect: nobody calls, and somebody says that the store is gone.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, fallback.Options{Failures: 5, Interval: time.Hour})
		defer r.stop()
		r.want(t, "closed", true)
		r.store.set(func(s *store) { s.err = errors.New("gone") })
		r.Suspect()
		if took := r.becomes(t, false); took > 2*time.Second {
			t.Errorf("away %v after it was suspected", took)
		}
		if r.State().Breaker == "closed" {
			t.Errorf("%+v", r.State())
		}
	})
}

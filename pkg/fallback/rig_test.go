package fallback_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-limiter/weir/pkg/fallback"
)

// redisError is an answer of Redis as its client marks it.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

var errRefused = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

// store is one that a test takes away and brings back.
type store struct {
	mu       sync.Mutex
	err      error // of probes and calls
	hang     bool
	recover  error
	hangRec  bool
	probes   int
	recovers int
	last     time.Time // of the last probe
}

func (s *store) set(change func(*store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *store) ask(ctx context.Context) error {
	s.mu.Lock()
	err, hang := s.err, s.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (s *store) probe(ctx context.Context) error {
	s.set(func(s *store) { s.probes++; s.last = time.Now() })
	return s.ask(ctx)
}

func (s *store) regain(ctx context.Context) error {
	s.mu.Lock()
	s.recovers++
	err, hang := s.recover, s.hangRec
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (s *store) counts() (probes, recovers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probes, s.recovers
}

// rig is a guard that runs, its store, and what it told.
type rig struct {
	*fallback.Guard
	store  store
	alerts []fallback.Alert // read them while all goroutines wait
	log    bytes.Buffer
	stop   func()
}

// newRig starts a guard; with away the store does not answer at first.
func newRig(t testing.TB, away bool, o fallback.Options) *rig {
	t.Helper()
	r := &rig{}
	if away {
		r.store.err = errRefused
	}
	o.Probe, o.Recover, o.Instance = r.store.probe, r.store.regain, "node-1"
	o.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	o.Alert = func(a fallback.Alert) { r.alerts = append(r.alerts, a) }
	g, err := fallback.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Guard = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	synctest.Wait()
	return r
}

// fail makes n calls that fail with err.
func (r *rig) fail(t testing.TB, n int, err error) {
	t.Helper()
	for range n {
		if got := r.Do(context.Background(), func(context.Context) error { return err }); !errors.Is(got, err) {
			t.Fatalf("Do: %v, want %v", got, err)
		}
	}
}

// becomes waits until the store is available or not, and tells how long it took.
func (r *rig) becomes(t testing.TB, available bool) time.Duration {
	t.Helper()
	began := time.Now()
	for r.Ready() != available {
		if time.Since(began) > time.Minute {
			t.Fatalf("not so after a minute: available %v: %+v", available, r.State())
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

func (r *rig) want(t testing.TB, breaker string, available bool) {
	t.Helper()
	synctest.Wait()
	if s := r.State(); s.Breaker != breaker || s.Available != available || r.Ready() != available {
		t.Fatalf("state %+v, ready %v; want %s, available %v", s, r.Ready(), breaker, available)
	}
}

package ratesync

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// faultyStore is the model, and fails as it is told.
type faultyStore struct {
	*Model
	mu    sync.Mutex
	fails func(call int) error // nil: does not
	calls int
	ops   []Op
}

func (s *faultyStore) Do(ctx context.Context, node string, ops []Op, replies []Reply) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.ops = append(s.ops, ops...)
	if s.fails != nil {
		if err := s.fails(s.calls); err != nil {
			return err
		}
	}
	return s.Model.Do(ctx, node, ops, replies)
}

func (s *faultyStore) told() (hits uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.ops {
		hits += op.Hits
	}
	return hits
}

// running is a kernel that a [Reconciling] reconciles, with a gate that is open.
func running(t *testing.T, k *kernel, store Executor, change func(*ReconcileOptions[int])) *Reconciling[int] {
	o := ReconcileOptions[int]{Core: k.Reconciler, Executor: store, Gate: &openGate{}, Node: "n", Nodes: func() int { return 2 },
		Clock: k.ticks, Timeout: time.Second}
	if change != nil {
		change(&o)
	}
	return NewReconciling(o)
}

// TestRoundThatFails: after the first call that fails no other is made, and the same is told again, under its number.
func TestRoundThatFails(t *testing.T) {
	k := local(t, ReconcileConfig{}, 1000, 1000)
	for at := range 2 * reportsPerCall {
		k.take(at, 100)
	}
	store := &faultyStore{Model: k.store, fails: func(call int) error {
		if call == 1 {
			return errors.New("away")
		}
		return nil
	}}
	r := running(t, k, store, nil)
	last := k.ticks()
	r.round(context.Background(), &last)
	if s := r.Stats(); store.calls != 1 || s.Failed != 1 || s.Rounds != 1 {
		t.Errorf("%d calls, %+v", store.calls, s)
	}
	first := map[ID]Op{}
	for _, op := range store.ops {
		first[op.ID] = op
	}
	k.now += 100 * time.Millisecond
	r.round(context.Background(), &last)
	again := 0
	for _, op := range store.ops[reportsPerCall:] {
		if was, ok := first[op.ID]; ok {
			if again++; was.Seq != op.Seq || was.Hits != op.Hits {
				t.Errorf("told %+v, then %+v", was, op)
			}
		}
	}
	if s := r.Stats(); again != reportsPerCall || store.calls != 3 || s.Failed != 1 || s.Lag != 0 {
		t.Errorf("%d told again, %d calls, %+v", again, store.calls, s)
	}
}

// TestRoundsWithoutTheStore: nothing is asked behind a closed gate.
func TestRoundsWithoutTheStore(t *testing.T) {
	k := local(t, ReconcileConfig{}, 1000, 1000)
	store, gate := &faultyStore{Model: k.store}, &openGate{}
	gate.closed.Store(true)
	r := running(t, k, store, func(o *ReconcileOptions[int]) { o.Gate = gate })
	last := k.ticks()
	k.take(1, 500)
	for range 3 {
		k.now += 100 * time.Millisecond
		r.round(context.Background(), &last)
	}
	if s := r.Stats(); store.calls != 0 || s.Away != 3 || s.Lag != 300*time.Millisecond {
		t.Errorf("%d calls, %+v", store.calls, s)
	}
	gate.closed.Store(false)
	r.round(context.Background(), &last)
	if store.calls != 1 || store.ops[0].Want == 0 || r.Stats().Lag != 0 {
		t.Errorf("%d calls, %+v, %+v", store.calls, store.ops, r.Stats())
	}
}

// TestRoundWithGarbage: whose bucket in the store is something else is heard of, and limited by what this node knows.
func TestRoundWithGarbage(t *testing.T) {
	k := local(t, ReconcileConfig{}, 1000, 1000)
	var heard []ReconcileError
	r := running(t, k, garbage{}, func(o *ReconcileOptions[int]) { o.Errors = func(e ReconcileError) { heard = append(heard, e) } })
	last := k.ticks()
	k.take(1, 500)
	for range 3 {
		r.round(context.Background(), &last)
		k.now += 100 * time.Millisecond
	}
	if len(heard) != 3 || heard[0].Policy != k.policy || !errors.Is(heard[0].Err, ErrState) || r.Stats().Lost != 3 {
		t.Errorf("heard %+v, %+v", heard, r.Stats())
	}
	if left := k.tokens(1); left < 700 || left > 850 {
		t.Errorf("%d tokens 300 ms after 500 of 1000 were used", left)
	}
}

// garbage is a store in which nothing is what it should be.
type garbage struct{}

func (garbage) Do(_ context.Context, _ string, _ []Op, replies []Reply) error {
	for i := range replies {
		replies[i] = Reply{Err: ErrState}
	}
	return nil
}

// TestRun runs one by the machine's clock: what is announced is told, and what was used last, before it ends.
func TestRun(t *testing.T) {
	k := local(t, ReconcileConfig{Interval: 10 * time.Millisecond}, 10, 1000)
	start := time.Now()
	clock := func() bucket.Ticks { return ticksOf(time.Hour + time.Since(start)) }
	store := &faultyStore{Model: NewModel(func() int64 { return time.Now().UnixMicro() })}
	r := running(t, k, store, func(o *ReconcileOptions[int]) { o.Clock = clock })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()

	use := func(at, tokens int) {
		if k.table.Take(hashOfSource(at), &k.policy.Bucket, clock(), uint64(tokens), true)&bucket.Admitted == 0 {
			t.Fatal("not admitted")
		}
		r.Announce(Source[int]{Policy: k.policy, At: at, ID: ID{byte(at)}}, uint64(tokens))
	}
	use(1, 100)
	until(t, "the first source is told of", func() bool { return store.told() >= 99 })
	if err := r.Replace(ctx, func(s Source[int]) (Source[int], bool) { return s, s.At != 1 }); err != nil {
		t.Error(err)
	}
	until(t, "it is forgotten", func() bool { return r.Stats().Tracked == 0 && r.Stats().Rounds > 2 })
	use(2, 50)
	until(t, "the second is", func() bool { return store.told() >= 148 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := r.Replace(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v after its end", err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

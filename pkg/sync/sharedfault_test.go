package ratesync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// inBubble runs a test with a store and one node, by a clock that goes as soon as all wait.
func inBubble(t *testing.T, run func(t *testing.T, store *fakeStore, n *peer, m machine)) {
	synctest.Test(t, func(t *testing.T) {
		m := machine{time.Now()}
		store := newFakeStore(m.since)
		n := startPeer(t, store, m, 1, func(o *SharerOptions) { o.CommandTimeout = 10 * time.Millisecond })
		run(t, store, n, m)
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	})
}

var errLost = errors.New("the answer was lost")

func ask(n *peer, l limiter.Shared, k limiter.Key, hits uint64) (limiter.Outcome, limiter.Answer) {
	all := []limiter.Asking{{Shared: l, Key: k, Hits: hits}}
	n.Ask(context.Background(), all)
	return all[0].Outcome, all[0].Answer
}

// TestStoreThatBlocks: whoever asks gives up after the command timeout, though the store heeds no context, and all workers
// are stuck.
func TestStoreThatBlocks(t *testing.T) {
	for _, c := range []policy.Consistency{policy.ConsistencyStrict, policy.ConsistencyLeased} {
		t.Run(string(c), func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
				l := n.share(t, tokenPolicy(1000, time.Second, 1000, c))
				open := make(chan struct{})
				store.fail(func(context.Context, []Op, []Reply) error { <-open; return errLost }, nil)
				var all sync.WaitGroup
				for i := range 10 {
					all.Go(func() {
						for range 3 {
							begun := m.since()
							if _, a := ask(n, l, keyOf(byte(i)), 1); a != limiter.Away {
								t.Errorf("%v of a store that never answers", a)
							}
							if took := m.since() - begun; took != 10*time.Millisecond {
								t.Errorf("it took %v", took)
							}
						}
					})
				}
				all.Wait()
				close(open)
				synctest.Wait()
				store.fail(nil, nil)
				if f := n.Figures(); f.Away != 30 || f.Calls > 4 || c == policy.ConsistencyStrict && f.Expired == 0 {
					t.Errorf("%+v", f)
				}
				if o, a := ask(n, l, keyOf(1), 1); a != limiter.Decided || !o.Admitted {
					t.Errorf("after it came back: %v %+v", a, o)
				}
			})
		})
	}
}

// TestManyWait: beyond what the queue holds nobody waits at all.
func TestManyWait(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		l := n.share(t, tokenPolicy(1000, time.Second, 1000, policy.ConsistencyStrict))
		open := make(chan struct{})
		store.fail(func(context.Context, []Op, []Reply) error { <-open; return errLost }, nil)
		var all sync.WaitGroup
		for range maxAsks + 2*maxBatch + 200 {
			all.Go(func() { ask(n, l, keyOf(1), 1) })
		}
		synctest.Wait()
		if f := n.Figures(); f.Busy < 200 || f.Busy > 200+2*maxBatch { // two workers have taken up to maxBatch out of the queue
			t.Errorf("%+v", f)
		}
		all.Wait()
		close(open)
	})
}

// TestLateAnswers are not lost: a lease is kept, and what was taken strictly goes back.
func TestLateAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		leased := n.share(t, tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyLeased))
		strict := n.share(t, tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyStrict))
		flying := n.share(t, policy.Policy{Name: "c", Scope: policy.ScopePerUser, Limit: 5, Window: time.Minute, Burst: 5,
			Algorithm: policy.AlgorithmConcurrency, Consistency: policy.ConsistencyStrict, Layer: policy.LayerL7})
		store.fail(nil, func(context.Context, []Op, []Reply) error { time.Sleep(15 * time.Millisecond); return nil })
		all := []limiter.Asking{
			{Shared: leased, Key: keyOf(1), Hits: 5}, {Shared: strict, Key: keyOf(2), Hits: 5}, {Shared: flying, Key: keyOf(3), Hits: 1},
		}
		n.Ask(context.Background(), all)
		for i := range all {
			if all[i].Answer != limiter.Away {
				t.Errorf("%d: %+v", i, all[i])
			}
		}
		time.Sleep(100 * time.Millisecond)
		store.fail(nil, nil)
		if o, a := leased.Take(keyOf(1), m.instant(), 5); a != limiter.Decided || !o.Admitted {
			t.Errorf("the late lease: %v %+v", a, o)
		}
		for _, i := range []byte{2, 3} {
			if debt := store.debt(keyOf(i)); debt > 1e-3 {
				t.Errorf("bucket %d still counts %v", i, debt)
			}
		}
		if f := n.Figures(); f.Late != 1 || f.Returned != 6 {
			t.Errorf("%+v", f)
		}
	})
}

// TestLostAnswers: the lease is asked for once more, and debited once.
func TestLostAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		l := n.share(t, tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyLeased))
		store.fail(nil, func(context.Context, []Op, []Reply) error { return errLost })
		if _, a := ask(n, l, keyOf(1), 5); a != limiter.Away {
			t.Fatal(a)
		}
		first := store.last(Lease)
		store.fail(nil, nil)
		if o, a := ask(n, l, keyOf(1), 5); a != limiter.Decided || !o.Admitted {
			t.Fatalf("%v %+v", a, o)
		}
		if again := store.last(Lease); again.Seq != first.Seq || store.counted(Lease) != 2 {
			t.Errorf("first %+v, then %+v", first, again)
		}
		if debt := store.debt(keyOf(1)); debt > 5 {
			t.Errorf("5 were used, and %v debited", debt)
		}
	})
}

// TestGarbage: what no store can say is no answer, and nothing of it is spent.
func TestGarbage(t *testing.T) {
	replies := map[string]Reply{
		"granted too many": {Granted: 1 << 50, Admitted: true},
		"negative times":   {Granted: 5, Admitted: true, Full: -1, Wait: -5},
		"left too many":    {Granted: 5, Admitted: true, Left: 1 << 60},
		"broken":           {Err: ErrState},
	}
	for name, r := range replies {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
				store.fail(nil, func(_ context.Context, ops []Op, replies []Reply) error {
					for i := range replies {
						if ops[i].ID == keyOf(1).ID {
							replies[i] = r
						}
					}
					return nil
				})
				for _, c := range []policy.Consistency{policy.ConsistencyStrict, policy.ConsistencyLeased} {
					l := n.share(t, tokenPolicy(1000, time.Hour, 1000, c))
					if o, a := ask(n, l, keyOf(1), 5); a != limiter.Away {
						t.Errorf("%s: %v %+v", c, a, o)
					}
					if o, a := ask(n, l, keyOf(2), 5); a != limiter.Decided || !o.Admitted {
						t.Errorf("%s: another bucket: %v %+v", c, a, o)
					}
					if _, a := l.Take(keyOf(1), m.instant(), 1); a != limiter.Ask {
						t.Errorf("%s: then %v", c, a)
					}
				}
				if f := n.Figures(); f.Broken != 2 {
					t.Errorf("%+v", f)
				}
			})
		})
	}
}

// TestBrokenOfGroup: one that the store can't decide keeps no other from being taken.
func TestBrokenOfGroup(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		store.broken = map[ID]bool{keyOf(1).ID: true}
		l := n.share(t, tokenPolicy(10, time.Hour, 10, policy.ConsistencyStrict))
		all := []limiter.Asking{{Shared: l, Key: keyOf(1), Hits: 1}, {Shared: l, Key: keyOf(2), Hits: 1}, {Shared: l, Key: keyOf(3), Hits: 1}}
		n.Ask(context.Background(), all)
		if all[0].Answer != limiter.Away || all[1].Answer != limiter.Decided || !all[1].Outcome.Admitted || all[2].Answer != limiter.Decided {
			t.Errorf("%+v", all)
		}
		for _, i := range []byte{2, 3} {
			if debt := store.debt(keyOf(i)); debt != 1 {
				t.Errorf("bucket %d counts %v", i, debt)
			}
		}
	})
}

// TestShadowsTakeWithTheOthers: they deny nobody, and take nothing where somebody else denies.
func TestShadowsTakeWithTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		shadow := n.share(t, tokenPolicy(2, time.Hour, 2, policy.ConsistencyStrict))
		strict := n.share(t, tokenPolicy(4, time.Hour, 4, policy.ConsistencyStrict))
		var got []string
		for range 6 {
			all := []limiter.Asking{{Shared: shadow, Key: keyOf(1), Hits: 1, Shadow: true}, {Shared: strict, Key: keyOf(2), Hits: 1}}
			n.Ask(context.Background(), all)
			got = append(got, fmt.Sprint(all[0].Outcome.Admitted, all[1].Outcome.Admitted))
		}
		want := []string{"true true", "true true", "false true", "false true", "false false", "false false"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, not %v", got, want)
		}
		n.Ask(context.Background(), []limiter.Asking{{Shared: shadow, Key: keyOf(3), Hits: 1, Shadow: true}, {Shared: strict, Key: keyOf(2), Hits: 1}})
		time.Sleep(time.Second)
		if debt := store.debt(keyOf(3)); debt > 1e-3 {
			t.Errorf("a shadow took %v of a query that was denied", debt)
		}
	})
}

// TestWindows: a lease ends with its window, on the store's clock.
func TestWindows(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		l := n.share(t, policy.Policy{Name: "w", Scope: policy.ScopePerUser, Limit: 1000, Window: time.Second, Burst: 1000,
			Algorithm: policy.AlgorithmFixedWindow, Consistency: policy.ConsistencyLeased, Layer: policy.LayerL7})
		perWindow := map[int64]int{}
		for m.since() < 4*time.Second {
			n.Beat(0, 1)
			at := m.since()
			if o, a := check(n, l, keyOf(1), m.instant(), 1); a == limiter.Decided && o.Admitted {
				perWindow[int64(at/time.Second)]++
			}
			time.Sleep(400 * time.Microsecond)
		}
		for w, n := range perWindow {
			if n > 1000 || n < 900 {
				t.Errorf("window %d admitted %d of 1000", w, n)
			}
		}
		if f := n.Figures(); f.Ops > 200 {
			t.Errorf("%+v", f)
		}
	})
}

// TestRefundsComeBack: at once if it is leased, and by and by if not.
func TestRefundsComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		for i, c := range []policy.Consistency{policy.ConsistencyStrict, policy.ConsistencyLeased} {
			l, k := n.share(t, tokenPolicy(100, time.Hour, 100, c)), keyOf(byte(i))
			for range 200 {
				o, a := check(n, l, k, m.instant(), 1)
				if a != limiter.Decided || !o.Admitted {
					t.Fatalf("%s: %v %+v", c, a, o)
				}
				l.Refund(k, m.instant(), o, 1)
				synctest.Wait()
			}
		}
	})
}

// TestSpike: many who come at once to a full bucket are all let in, though the node may hold few tokens at a time.
func TestSpike(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		n.Beat(0, 20)
		store.fail(nil, func(context.Context, []Op, []Reply) error { time.Sleep(1500 * time.Microsecond); return nil })
		l := n.share(t, tokenPolicy(2000, time.Hour, 2000, policy.ConsistencyLeased))
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				if o, a := check(n, l, keyOf(1), m.instant(), 1); a != limiter.Decided || !o.Admitted {
					t.Errorf("%v %+v", a, o)
				}
			})
		}
		all.Wait()
		if f := n.Figures(); f.Contended > 0 || f.Calls > 20 {
			t.Errorf("%+v", f)
		}
	})
}

// TestStopWhileTheStoreHangs ends in a bounded time, and says what it could not hand back.
func TestStopWhileTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := machine{time.Now()}
		store := newFakeStore(m.since)
		n := startPeer(t, store, m, 1, nil)
		l := n.share(t, tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyLeased))
		for range 5 {
			check(n, l, keyOf(1), m.instant(), 1)
		}
		store.fail(func(ctx context.Context, _ []Op, _ []Reply) error { <-ctx.Done(); return ctx.Err() }, nil)
		begun := m.since()
		if err := n.stop(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopped with %v", err)
		}
		if took := m.since() - begun; took > stopTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

// TestRampLetsSomeIn while others stay away.
func TestRampLetsSomeIn(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		n.gate.ramp.Store(true)
		l := n.share(t, tokenPolicy(100, time.Hour, 100, policy.ConsistencyLeased))
		for hash, want := range map[uint64]limiter.Answer{2: limiter.Ask, 3: limiter.Away} {
			if _, a := l.Take(limiter.Key{Hash: hash, ID: ID{9}}, m.instant(), 1); a != want {
				t.Errorf("hash %d: %v, not %v", hash, a, want)
			}
		}
	})
}

// TestRecoverKeepsWhatItCouldNotReport.
func TestRecoverKeepsWhatItCouldNotReport(t *testing.T) {
	inBubble(t, func(t *testing.T, store *fakeStore, n *peer, m machine) {
		l := n.share(t, tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyLeased))
		for i := range 200 {
			l.Spent(keyOf(byte(i)), m.instant(), 7)
		}
		calls := 0
		store.fail(func(context.Context, []Op, []Reply) error {
			if calls++; calls == 2 || calls == 3 {
				return errLost
			}
			return nil
		}, nil)
		if err := n.Recover(context.Background()); !errors.Is(err, errLost) {
			t.Fatal(err)
		}
		if err := n.Recover(context.Background()); err != nil {
			t.Fatal(err)
		}
		total := uint64(0)
		for _, op := range store.ops {
			if total += op.Hits; op.Verb != Report || op.Hits != 7 {
				t.Fatalf("%+v", op)
			}
		}
		if total != 1400 || n.Figures().Reported != 200 {
			t.Errorf("reported %d: %+v", total, n.Figures())
		}
	})
}

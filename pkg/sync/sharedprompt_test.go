package ratesync

import (
	"sync"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestAskOfFrozenRedis: who calls Redis himself waits no longer than who leaves it to a worker, connected or not.
func TestAskOfFrozenRedis(t *testing.T) {
	const timeout, slack = 50 * time.Millisecond, 400 * time.Millisecond
	s := redistest.Start(t, redistest.Options{})
	r := open(t, Options{URLs: []string{s.URL}, CommandTimeout: timeout})
	m := machine{time.Now()}
	n := startPeer(t, r, m, 1, func(o *SharerOptions) { o.CommandTimeout, o.Workers = timeout, DefaultPoolSize })
	l := n.share(t, tokenPolicy(1000, time.Second, 1000, policy.ConsistencyStrict))
	if n.direct == 0 {
		t.Fatal("nobody calls for himself")
	}
	decided := func() error {
		if o, a := ask(n, l, keyOf(1), 1); a != limiter.Decided || !o.Admitted {
			return errLost
		}
		return nil
	}
	eventually(t, "Redis decides", decided)
	redistest.Must(t, s.Freeze())
	for range 3 { // connections end with the first, and nobody accepts others
		for _, askers := range []int{1, 30} {
			var all sync.WaitGroup
			for range askers {
				all.Go(func() {
					begun := time.Now()
					if _, a := ask(n, l, keyOf(1), 1); a != limiter.Away {
						t.Errorf("%v of a store that never answers", a)
					}
					if took := time.Since(begun); took > timeout+slack {
						t.Errorf("it took %v", took)
					}
				})
			}
			all.Wait()
		}
	}
	redistest.Must(t, s.Thaw())
	eventually(t, "Redis decides again", decided)
	begun := time.Now()
	if err := n.stop(); err != nil || time.Since(begun) > timeout+slack {
		t.Errorf("stopped after %v: %v", time.Since(begun), err)
	}
}

// promptStore is a fake that lets who asks call it himself.
type promptStore struct{ *fakeStore }

func (promptStore) Prompt() bool { return true }

// TestOwnCalls: a lone question wakes no worker, and takes along what waits for one.
func TestOwnCalls(t *testing.T) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(t, promptStore{store}, m, 1, nil)
	strict := n.share(t, tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyStrict))
	leased := n.share(t, tokenPolicy(1000, time.Hour, 1000, policy.ConsistencyLeased))
	const each = 200
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range each {
				l := strict
				if i%2 == 1 {
					l = leased
				}
				if o, a := check(n, l, keyOf(byte(i)), m.instant(), 1); a != limiter.Decided || !o.Admitted {
					t.Errorf("%v %+v", a, o)
				}
			}
		})
	}
	all.Wait()
	if len(n.slots) != 0 {
		t.Errorf("%d slots are taken by nobody", len(n.slots))
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range byte(20) {
		if debt := store.debt(keyOf(i)); debt != each {
			t.Errorf("bucket %d was charged %v, not %d", i, debt, each)
		}
	}
	if _, a := ask(n, strict, keyOf(1), 1); a != limiter.Away {
		t.Errorf("a stopped sharer answers %v", a)
	}
}

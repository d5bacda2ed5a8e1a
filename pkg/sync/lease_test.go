package ratesync

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

func tokenLimit(limit uint64, window time.Duration, burst uint64) Limit {
	return Limit{policy.AlgorithmTokenBucket, limit, window, burst}
}

func termsOf(t testing.TB, l *Leases, limit Limit) *Terms {
	t.Helper()
	terms, err := l.Terms(limit)
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

// known are leases of a node that the others know.
func known(entries, nodes int, now bucket.Ticks) *Leases {
	l := NewLeases(LeaseOptions{Entries: entries, Share: DefaultLeaseShare})
	l.SetNodes(nodes)
	l.SetBeat(now)
	l.SetBeat(now)
	return l
}

// grant leases a bucket as a store with plenty would.
func grant(t testing.TB, l *Leases, terms *Terms, k limiter.Key, now bucket.Ticks, hits uint64) uint64 {
	t.Helper()
	p, ok := l.Plan(terms, k, now, hits, hits)
	if !ok {
		t.Fatalf("no plan for %d hits", hits)
	}
	if back := l.Apply(&p, Reply{Granted: p.Op.Want}, nil, now); back != 0 {
		t.Fatalf("%d of %d given back", back, p.Op.Want)
	}
	return p.Op.Want
}

const second = bucket.Ticks(1e9) << 8

func spendAll(l *Leases, terms *Terms, k limiter.Key, now bucket.Ticks) (n uint64) {
	for {
		if o, a, _ := l.Take(terms, k, now, 1); a != limiter.Decided || !o.Admitted {
			return n
		}
		n++
	}
}

// TestStaleBeat: what a node holds is void when the others count it as dead, and it begins anew as a newcomer.
func TestStaleBeat(t *testing.T) {
	now := 1000 * second
	l := known(64, 2, now)
	terms, k := termsOf(t, l, tokenLimit(1000, time.Second, 1000)), keyOf(1)
	grant(t, l, terms, k, now, 40)
	flying, _ := l.Plan(terms, keyOf(2), now, 5, 5)
	if o, a, _ := l.Take(terms, k, now+3*second-1, 1); a != limiter.Decided || !o.Admitted {
		t.Errorf("just in time: %v %+v", a, o)
	}
	now += 3 * second
	if _, a, _ := l.Take(terms, k, now, 1); a != limiter.Ask {
		t.Errorf("too late: %v", a)
	}
	if l.Splits(terms, now, 1) {
		t.Error("a node that is counted as dead leases")
	}
	l.SetBeat(now)
	if n := spendAll(l, terms, k, now); n != 0 {
		t.Errorf("%d of a void lease were spent", n)
	}
	if back := l.Apply(&flying, Reply{Granted: 5}, nil, now); back != 5 {
		t.Errorf("an answer from before gave back %d of 5", back)
	}
	if l.Splits(terms, now, 1) {
		t.Error("a newcomer leases")
	}
	l.SetBeat(now + second)
	if !l.Splits(terms, now+second, 1) {
		t.Error("a node that all know doesn't lease")
	}
}

// TestMoreNodes: each may hold less, and drops the rest.
func TestMoreNodes(t *testing.T) {
	now := 1000 * second
	l := known(64, 1, now)
	terms, k := termsOf(t, l, tokenLimit(1000, time.Second, 1000)), keyOf(1)
	grant(t, l, terms, k, now, 100)
	l.SetNodes(4)
	if n := spendAll(l, terms, k, now); n != 25 {
		t.Errorf("a node of 4 spent %d of a burst of 1000", n)
	}
	l.SetNodes(200)
	if l.Splits(terms, now, 1) {
		t.Error("a burst of 1000 can't be split among 200")
	}
}

// TestEviction takes entries that hold the least, and what it drops is never spent.
func TestEviction(t *testing.T) {
	now := 1000 * second
	l := known(ways, 1, now)
	terms := termsOf(t, l, tokenLimit(1000, time.Second, 1000))
	holds, denied, owes, idle := keyOf(0), keyOf(1), keyOf(2), keyOf(3)
	grant(t, l, terms, holds, now, 10)
	l.Note(terms, denied, now, Reply{Wait: time.Minute, Full: time.Minute})
	l.Spent(terms, owes, now, 500)
	grant(t, l, terms, idle, now, 1)
	spendAll(l, terms, idle, now)
	has := func(k limiter.Key) bool { e, _ := l.table.find(&k, terms.index); return e != nil }
	for i, loses := range []limiter.Key{idle, denied, holds, owes} {
		if !has(loses) {
			t.Fatalf("%d had no entry", i)
		}
		k := keyOf(byte(10 + i))
		l.Spent(terms, k, now, 1000) // a larger debt than any
		if has(loses) || !has(k) {
			t.Errorf("%d: the entry that holds least stayed", i)
		}
	}
	if f := l.forgotten.Load(); f != 1 {
		t.Errorf("%d debts were forgotten", f)
	}
	if n := spendAll(l, terms, holds, now); n != 0 {
		t.Errorf("%d were spent of a lease without an entry", n)
	}
}

// TestSpendersAndClaims at once: nobody spends what was leased for another bucket.
func TestSpendersAndClaims(t *testing.T) {
	now := 1000 * second
	l := known(ways, 1, now)
	terms := termsOf(t, l, tokenLimit(1<<30, time.Second, 1<<30))
	var granted, spent [12]atomic.Uint64
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 2))
			for range 20_000 {
				i := r.IntN(len(granted))
				k := limiter.Key{ID: ID{byte(i)}} // all in one set
				switch r.IntN(4) {
				case 0:
					if p, ok := l.Plan(terms, k, now, 20, 20); ok {
						granted[i].Add(p.Op.Want) // before it can be spent
						l.Apply(&p, Reply{Granted: p.Op.Want}, nil, now)
					}
				default:
					if o, a, _ := l.Take(terms, k, now, 3); a == limiter.Decided && o.Admitted {
						spent[i].Add(3)
					}
				}
			}
		})
	}
	all.Wait()
	some := uint64(0)
	for i := range spent {
		if some += spent[i].Load(); spent[i].Load() > granted[i].Load() {
			t.Errorf("bucket %d: %d spent of %d", i, spent[i].Load(), granted[i].Load())
		}
	}
	if some == 0 {
		t.Error("nothing was spent")
	}
}

// TestDenialsAreRemembered for as long as the store said, for as many hits as it said.
func TestDenialsAreRemembered(t *testing.T) {
	now := 1000 * second
	l := known(64, 1, now)
	terms, k := termsOf(t, l, tokenLimit(10, time.Second, 1000)), keyOf(1)
	p, _ := l.Plan(terms, k, now, 50, 50)
	l.Apply(&p, Reply{Left: 20, Wait: 3 * time.Second, Full: 98 * time.Second}, nil, now)
	soon := now + second*9/10
	for hits, want := range map[uint64]limiter.Answer{20: limiter.Ask, 21: limiter.Decided, 50: limiter.Decided} {
		if _, a, _ := l.Take(terms, k, soon, hits); a != want {
			t.Errorf("%d hits: %v", hits, a)
		}
	}
	o, _, _ := l.Take(terms, k, soon, 50)
	if o.Admitted || o.RetryAfter < 2100*time.Millisecond || o.RetryAfter > 2101*time.Millisecond {
		t.Errorf("%+v", o)
	}
	if o, _, _ := l.Take(terms, k, soon, 60); o.RetryAfter < 3*time.Second {
		t.Errorf("more hits wait no longer: %+v", o)
	}
	if _, a, _ := l.Take(terms, k, now+second*11/10, 50); a != limiter.Ask {
		t.Errorf("somebody may have reset it by now: %v", a)
	}
	p, _ = l.Plan(terms, k, now, 50, 50)
	l.Apply(&p, Reply{Left: 20, Wait: 90 * time.Second, Full: 98 * time.Second}, nil, now)
	for after, want := range map[bucket.Ticks]limiter.Answer{11: limiter.Decided, 12: limiter.Ask} {
		if _, a, _ := l.Take(terms, k, now+after*second, 50); a != want {
			t.Errorf("of 90 s after %d: %v", after, a)
		}
	}
	if _, a, _ := l.Take(terms, k, now+91*second, 50); a != limiter.Ask {
		t.Errorf("afterwards: %v", a)
	}
	if o, a, _ := l.Take(terms, k, now, 1001); a != limiter.Decided || o.RetryAfter != limiter.Never {
		t.Errorf("more than a burst: %v %+v", a, o)
	}
}

// TestDebtsDecay at the policy's rate, and are told once.
func TestDebtsDecay(t *testing.T) {
	now := 1000 * second
	l := known(64, 1, now)
	terms := termsOf(t, l, tokenLimit(10, time.Second, 100))
	l.Spent(terms, keyOf(1), now, 50)
	l.Spent(terms, keyOf(2), now, 5000) // no bucket is emptier than empty
	l.Spent(terms, keyOf(3), now, 10)
	owed := map[byte]uint64{}
	l.Owed(now+2*second, false, func(d Debt) bool { owed[d.Op.ID[0]] = d.Op.Hits; return true })
	if len(owed) != 2 || owed[1] != 30 || owed[2] != 80 {
		t.Errorf("%v", owed)
	}
	l.Owed(now+2*second, false, func(d Debt) bool { t.Errorf("twice: %+v", d.Op); return true })
}

// TestLostStore: each node tells what the buckets owed.
func TestLostStore(t *testing.T) {
	now := 1000 * second
	l := known(64, 1, now)
	terms := termsOf(t, l, tokenLimit(10, time.Second, 1000))
	p, _ := l.Plan(terms, keyOf(1), now, 50, 50)
	l.Apply(&p, Reply{Granted: p.Op.Want, Left: 300, Full: 70 * time.Second}, nil, now)
	l.Spent(terms, keyOf(1), now, 25)
	var ops []Op
	l.Owed(now+second, true, func(d Debt) bool { ops = append(ops, d.Op); return true })
	if len(ops) != 1 || ops[0].Verb != Report || ops[0].Hits != 15 || ops[0].Want != 690+15 || ops[0].Seq == 0 {
		t.Errorf("%+v", ops)
	}
}

// TestLeasesOfAnotherWindow: the credit of one is not spent in the next.
func TestLeasesOfAnotherWindow(t *testing.T) {
	now := 1000 * second
	l := known(64, 1, now)
	terms, k := termsOf(t, l, Limit{policy.AlgorithmSlidingWindow, 1000, time.Second, 1000}), keyOf(1)
	p, _ := l.Plan(terms, k, now, 100, 100)
	l.Apply(&p, Reply{Granted: 100, Good: 500 * time.Millisecond}, nil, now)
	o, _, _ := l.Take(terms, k, now, 30)
	if p, ok := l.Plan(terms, k, now+second*499/1000, 80, 80); ok { // sent in one window, and answered in the next
		l.Apply(&p, Reply{Granted: 10, Good: time.Second}, nil, now+second*502/1000)
	} else {
		t.Fatal("no plan")
	}
	if n := spendAll(l, terms, k, now+second*502/1000); n != 10 {
		t.Errorf("%d spent of the 10 of this window", n)
	}
	if back := l.Refund(terms, k, now+second*502/1000, o, 30); back != 0 {
		t.Errorf("%d of a window that is over are given to the next", back)
	}
	if n := spendAll(l, terms, k, now+second*502/1000); n != 0 {
		t.Errorf("%d of the last window came back", n)
	}
}

// TestHotPathAllocatesNothing.
func TestHotPathAllocatesNothing(t *testing.T) {
	store, m := newFakeStore(machine{time.Now()}.since), machine{time.Now()}
	n := startPeer(t, store, m, 1, nil)
	l := n.share(t, tokenPolicy(1<<36, time.Second, 1<<38, policy.ConsistencyLeased))
	drained := n.share(t, tokenPolicy(10, time.Hour, 10, policy.ConsistencyLeased))
	check(n, l, keyOf(1), m.instant(), 1<<20)
	for range 11 {
		check(n, drained, keyOf(2), m.instant(), 1)
	}
	now := m.instant()
	if o, a := drained.Take(keyOf(2), now, 1); a != limiter.Decided || o.Admitted {
		t.Fatalf("%v %+v", a, o)
	}
	grant(t, n.leases, l.(*shared).terms, keyOf(1), now.Ticks, 1<<30)
	if allocs := testing.AllocsPerRun(1000, func() {
		o, _ := l.Take(keyOf(1), now, 1)
		l.Peek(keyOf(1), now, 1)
		l.Refund(keyOf(1), now, o, 1)
		drained.Take(keyOf(2), now, 1)
		drained.Spent(keyOf(3), now, 1)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

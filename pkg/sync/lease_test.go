package ratesync

import (
	"fmt"
	"math/rand/v2"
	"slices"
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

// clusterNode is one of a simulated cluster: its leases, and what of it is on its way.
type clusterNode struct {
	*Leases
	name  string
	alive bool
	cut   int // for so many more steps
	beat  time.Duration
	mail  []mail
}

// mail is a call, or its answer, that comes at some time.
type mail struct {
	at       time.Duration
	plan     LeasePlan
	reply    Reply
	answered bool
	hits     uint64
}

// TestCluster: nodes come, go, are cut off, and lose answers; all of them together keep the bound, and waste little.
func TestCluster(t *testing.T) {
	for seed := range uint64(60) {
		runCluster(t, seed)
	}
}

func runCluster(t *testing.T, seed uint64) {
	const step, during = time.Millisecond, 8 * time.Second
	r := rand.New(rand.NewPCG(seed, 3))
	limit := tokenLimit(uint64(200+r.IntN(3000)), time.Second, uint64(100+r.IntN(3000)))
	now := time.Hour
	ticks := func() bucket.Ticks { return bucket.AtNanoseconds(uint64(now)) }
	store := newFakeStore(func() time.Duration { return now })
	heard := map[string]time.Duration{}
	k, rate := keyOf(1), float64(limit.Limit)
	f := &flow{rate: rate}
	var nodes []*clusterNode
	join := func() {
		n := &clusterNode{Leases: NewLeases(LeaseOptions{Entries: ways, Share: DefaultLeaseShare, Seq: r.Uint32()}), alive: true}
		n.name = string(rune('a' + len(nodes)))
		nodes = append(nodes, n)
	}
	for range 2 + r.IntN(4) {
		join()
	}
	for ; now < time.Hour+during; now += step {
		if r.IntN(800) == 0 && len(nodes) < 12 {
			join()
		}
		for _, n := range nodes {
			if !n.alive {
				continue
			}
			switch r.IntN(20_000) {
			case 0:
				n.alive = false
				continue
			case 1, 2, 3:
				n.cut = r.IntN(5000)
			}
			n.cut--
			if n.cut <= 0 && now-n.beat >= time.Second {
				n.beat, heard[n.name] = now, now
				known := 0
				for _, at := range heard {
					if now-at < LeaseLife {
						known++
					}
				}
				n.SetNodes(known)
				n.SetBeat(ticks())
			}
			terms := termsOf(t, n.Leases, limit)
			n.deliver(store, ticks(), now, f, r)
			for range r.IntN(2 + int(2*rate*step.Seconds())) {
				n.want(terms, k, ticks(), now, f, r)
			}
		}
	}
	most := (1+DefaultLeaseShare)*float64(limit.Burst) + rate*0.01 + 1
	if f.highest > most {
		t.Errorf("seed %d: %.0f at once, and %.0f may be (%d nodes, %+v)", seed, f.highest, most, len(nodes), limit)
	}
	if usable := float64(f.admitted) / (float64(limit.Burst) + rate*during.Seconds()); usable < 0.85 {
		t.Errorf("seed %d: %.2f of the limit was used (%d nodes, %+v)", seed, usable, len(nodes), limit)
	}
}

// want is one request for a hit.
func (n *clusterNode) want(terms *Terms, k limiter.Key, at bucket.Ticks, now time.Duration, f *flow, r *rand.Rand) {
	o, a, low := n.Take(terms, k, at, 1)
	hits := uint64(1)
	switch {
	case a == limiter.Decided && o.Admitted:
		f.admit(now, 1)
		if hits = 0; !low {
			return
		}
	case a == limiter.Decided:
		return
	}
	p, ok := n.Plan(terms, k, at, hits, hits)
	if !ok { // as a newcomer, or beside a lease that is on its way
		if hits > 0 && !n.Splits(terms, at, 1) {
			p = LeasePlan{Op: Op{Verb: Take, ID: k.ID, Limit: &terms.limit, Hits: 1}}
		} else {
			return
		}
	}
	n.mail = append(n.mail, mail{at: now + time.Duration(r.IntN(3))*time.Millisecond, plan: p, hits: hits})
}

// deliver brings calls to the store and answers home, some of them never.
func (n *clusterNode) deliver(store *fakeStore, at bucket.Ticks, now time.Duration, f *flow, r *rand.Rand) {
	for i := 0; i < len(n.mail); i++ {
		m := &n.mail[i]
		if m.at > now {
			continue
		}
		lost := n.cut > 0 || r.IntN(100) == 0
		switch {
		case !m.answered && !lost:
			replies := make([]Reply, 1)
			store.do(n.name, []Op{m.plan.Op}, replies)
			m.reply, m.answered, m.at = replies[0], true, now+time.Duration(r.IntN(3))*time.Millisecond
			continue
		case m.plan.Op.Verb == Take:
			if !lost && m.reply.Admitted {
				f.admit(now, 1)
			}
		case lost:
			n.Apply(&m.plan, Reply{}, errLost, at)
		default:
			back := n.Apply(&m.plan, m.reply, nil, at)
			if o, a, _ := n.Take(m.plan.terms, keyOf(1), at, max(m.hits, 1)); m.hits > 0 && a == limiter.Decided && o.Admitted {
				f.admit(now, m.hits)
			} else if m.hits == 0 && o.Admitted {
				f.admit(now, 1)
			}
			_ = back // lost on its way: less is admitted
		}
		n.mail = slices.Delete(n.mail, i, i+1)
		i--
	}
}

func BenchmarkLeasedTake(b *testing.B) {
	store, m := newFakeStore(machine{time.Now()}.since), machine{time.Now()}
	n := startPeer(b, store, m, 1, nil)
	l := n.share(b, tokenPolicy(1<<36, time.Second, 1<<38, policy.ConsistencyLeased))
	keys := make([]limiter.Key, 256)
	for i := range keys {
		keys[i] = keyOf(byte(i))
		check(n, l, keys[i], m.instant(), 1000)
	}
	now := m.instant()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		k := keys[i%256]
		if _, a := l.Take(k, now, 1); a == limiter.Ask {
			check(n, l, k, m.instant(), 1000)
		}
		i++
	}
	b.ReportMetric(float64(n.Figures().Ops)/float64(i)*1000, "ops/1000")
}

func BenchmarkLeasedDenied(b *testing.B) {
	store, m := frozen(), machine{time.Now()}
	n := startPeer(b, store, m, 1, nil)
	l := n.share(b, tokenPolicy(100, time.Hour, 100, policy.ConsistencyLeased))
	k := keyOf(1)
	for range 200 {
		check(n, l, k, m.instant(), 1)
	}
	now := m.instant()
	b.ReportAllocs()
	for b.Loop() {
		if o, a := l.Take(k, now, 1); a != limiter.Decided || o.Admitted {
			b.Fatal(a, o)
		}
	}
}

// The store of these takes no time: what remains is what asking costs here.
func BenchmarkAsk(b *testing.B) {
	for _, c := range []policy.Consistency{policy.ConsistencyStrict, policy.ConsistencyLeased} {
		for _, askers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s by %d", c, askers), func(b *testing.B) { benchmarkAsk(b, c, askers) })
		}
	}
}

func benchmarkAsk(b *testing.B, c policy.Consistency, askers int) {
	m := machine{time.Now()}
	n := startPeer(b, NewModel(func() int64 { return time.Now().UnixMicro() }), m, 1, func(o *SharerOptions) { o.Workers = 10 })
	l := n.share(b, tokenPolicy(1<<36, time.Second, 1<<36, c))
	b.ReportAllocs()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range askers {
		all.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				k := limiter.Key{Hash: uint64(i) * 0x9e3779b97f4a7c15, ID: ID{byte(i), byte(i >> 8)}}
				asking := [1]limiter.Asking{{Shared: l, Key: k, Hits: 1}}
				if n.Ask(b.Context(), asking[:]); asking[0].Answer != limiter.Decided {
					b.Error(asking)
				}
			}
		})
	}
	all.Wait()
	f := n.Figures()
	b.ReportMetric(float64(f.Ops)/float64(max(f.Calls, 1)), "ops/call")
}

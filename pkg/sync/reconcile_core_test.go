package ratesync

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// kernel is a node: its table, and the reconciler that a test drives by hand.
type kernel struct {
	testing.TB
	*Reconciler[int]
	table  *bucket.Table
	policy *ReconciledPolicy
	store  *Model
	now    time.Duration
}

func newKernel(t testing.TB, c ReconcileConfig, limit, burst uint64, onFailure policy.StoreFailure) *kernel {
	t.Helper()
	p, err := NewReconciledPolicy(&policy.Policy{Name: "p", Algorithm: policy.AlgorithmTokenBucket, Limit: limit, Window: time.Second,
		Burst: burst, OnStoreFailure: onFailure})
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{TB: t, policy: p, now: time.Hour}
	if k.table, err = bucket.NewTable(make([]byte, 1<<14*bucket.SetSize)); err != nil {
		t.Fatal(err)
	}
	if k.Reconciler, err = NewReconciler(c, k); err != nil {
		t.Fatal(err)
	}
	k.store = NewModel(func() int64 { return k.now.Microseconds() })
	return k
}

func hashOfSource(at int) uint64 { return uint64(at+1) * 0x9e3779b97f4a7c15 }

func (k *kernel) Use(at int) (uint32, bucket.Ticks, bool) {
	e, found := k.table.Lookup(hashOfSource(at))
	return e.Used, e.TAT, found
}

func (k *kernel) Adjust(at int, now bucket.Ticks, delta int64) (int64, bool) {
	return k.table.Adjust(hashOfSource(at), &k.policy.Bucket, now, delta)
}

func (k *kernel) ticks() bucket.Ticks { return ticksOf(k.now) }

// take lets up to so many tokens pass, and announces the source as the kernel does.
func (k *kernel) take(at, tokens int) (admitted int) {
	for range tokens {
		if k.table.Take(hashOfSource(at), &k.policy.Bucket, k.ticks(), 1, true)&bucket.Admitted == 0 {
			break
		}
		admitted++
	}
	if admitted > 0 {
		k.announce(at)
	}
	return admitted
}

func (k *kernel) announce(at int) bool {
	s := Source[int]{Policy: k.policy, At: at}
	binary.BigEndian.PutUint64(s.ID[:], uint64(at)+1)
	return k.Announce(k.ticks(), s, 1)
}

// round does one with the store, and says what was reported.
func (k *kernel) round(nodes int) []Op {
	k.Helper()
	ops := k.Plan(k.ticks(), nodes)
	replies := make([]Reply, len(ops))
	if err := k.store.Do(context.Background(), "n", ops, replies); err != nil {
		k.Fatal(err)
	}
	told := append([]Op(nil), ops...)
	k.Apply(k.ticks(), replies)
	k.now += 100 * time.Millisecond
	return told
}

// elsewhere has another node report use of a source.
func (k *kernel) elsewhere(at int, tokens uint64) Reply {
	k.Helper()
	op := Op{Verb: Report, Limit: &k.policy.Limit, Hits: tokens}
	binary.BigEndian.PutUint64(op.ID[:], uint64(at)+1)
	reply := make([]Reply, 1)
	if err := k.store.Do(context.Background(), "other", []Op{op}, reply); err != nil {
		k.Fatal(err)
	}
	return reply[0]
}

func (k *kernel) tokens(at int) uint64 {
	_, tat, found := k.Use(at)
	if !found {
		return k.policy.Limit.Burst
	}
	return k.policy.Bucket.Tokens(tat, k.ticks())
}

func local(t testing.TB, c ReconcileConfig, limit, burst uint64) *kernel {
	return newKernel(t, c, limit, burst, policy.StoreFailureLocal)
}

// TestReportsTheHeaviest: where more was used than may be told in a round, what weighs most goes first, and the rest later.
func TestReportsTheHeaviest(t *testing.T) {
	const sources, cap = 200, 20
	k := local(t, ReconcileConfig{Reports: cap}, 10, 1000)
	for at := range sources {
		k.take(at, 1+4*at)
	}
	told := map[uint64]bool{}
	for round := range sources/cap + 1 {
		ops := k.round(2)
		if len(ops) > cap {
			t.Fatalf("round %d: %d reports, at most %d", round, len(ops), cap)
		}
		for _, op := range ops {
			told[binary.BigEndian.Uint64(op.ID[:])-1] = true
			// 8 classes to a power of two: what is heavier by more than a quarter goes first.
			if round == 0 && float64(op.Hits) < 4*(sources-cap)/1.25 {
				t.Errorf("%d tokens were told of before heavier ones", op.Hits)
			}
		}
		if left := k.Stats().Deferred; round == 0 && left != sources-cap {
			t.Errorf("%d were deferred, want %d", left, sources-cap)
		}
	}
	if len(told) < sources*9/10 {
		t.Errorf("%d of %d sources were told of", len(told), sources)
	}
}

// TestFloodOfSources: those that come once neither make memory grow nor drive out one that is busy.
func TestFloodOfSources(t *testing.T) {
	const heavy, room = 50, 256
	k := local(t, ReconcileConfig{Sources: room, Reports: 64}, 1000, 1000)
	reports, spoofed := 0, heavy
	for range 50 {
		for at := range heavy {
			k.take(at, 80)
		}
		for range 1000 {
			k.take(spoofed, 1)
			spoofed++
		}
		ops := k.round(3)
		if reports += len(ops); len(ops) > 64 || len(k.sources) > room || cap(k.sources) > 2*room {
			t.Fatalf("%d reports, %d sources in room for %d", len(ops), len(k.sources), cap(k.sources))
		}
	}
	for at := range heavy {
		var id ID
		binary.BigEndian.PutUint64(id[:], uint64(at)+1)
		if _, kept := k.index[id]; !kept {
			t.Errorf("busy source %d was driven out", at)
		}
	}
	if s := k.Stats(); s.Refused == 0 || s.Shed == 0 || reports == 0 {
		t.Errorf("%+v, %d reports", s, reports)
	}
}

// TestRoundsAllocateNothing once a node has its sources.
func TestRoundsAllocateNothing(t *testing.T) {
	k := local(t, ReconcileConfig{}, 1000, 1000)
	round := func() {
		for at := range 300 {
			k.take(at, 20)
		}
		ops := k.Plan(k.ticks(), 3)
		replies := k.replies(ops)
		k.Apply(k.ticks(), replies)
		k.now += 100 * time.Millisecond
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(50, round); n > 0 {
		t.Errorf("%v allocations in a round", n)
	}
}

var answers [4096]Reply

// replies says that others used as much.
func (k *kernel) replies(ops []Op) []Reply {
	for i := range ops {
		answers[i] = Reply{Total: answers[i].Total + 2*ops[i].Hits, Full: time.Millisecond}
	}
	return answers[:len(ops)]
}

// TestStoreLosesItsData: who owed goes on owing, and tells the store of it.
func TestStoreLosesItsData(t *testing.T) {
	k := local(t, ReconcileConfig{}, 10, 100)
	k.take(1, 60)
	k.take(2, 1)
	k.elsewhere(1, 40)
	k.round(2)
	k.round(2)
	before := k.tokens(1)
	if before > 5 {
		t.Fatalf("%d tokens left of 100 that were used", before)
	}
	k.store = NewModel(func() int64 { return k.now.Microseconds() })
	for i := range 3 {
		k.take(2, 10) // which is asked for, and shows it
		k.round(2)
		if got := k.tokens(1); got > before+uint64(2*(i+2)) {
			t.Errorf("%d tokens %d rounds after the loss, %d before it", got, i+1, before)
		}
	}
	if left := k.elsewhere(1, 0).Left; left > 15 {
		t.Errorf("the store would grant others %d tokens", left)
	}
}

// TestCountsGoBack: another entry, or a refund.
func TestCountsGoBack(t *testing.T) {
	for _, c := range []struct {
		name        string
		before, now uint32
		told        uint64
	}{
		{"on", 1_000_000, 1_000_020, 20},
		{"around", 1<<32 - 10, 10, 20},
		{"a refund", 1_000_000, 999_998, 0},
		{"another entry", 1_000_000, 30, 30},
		{"another entry of one that used much", 1_000_000, 500_000, 112 + 12 + 16},
	} {
		k := local(t, ReconcileConfig{}, 10, 100)
		tr := &tracked[int]{src: Source[int]{Policy: k.policy}, used: c.before}
		if got := tr.usedSince(c.now, ticksOf(100*time.Millisecond)); got > c.told || got < c.told*8/10 {
			t.Errorf("%s: %d to %d: %d tokens, want %d", c.name, c.before, c.now, got, c.told)
		}
	}
}

// TestWithoutTheStore admits what on_store_failure says, and tells afterwards no more than what is owed.
func TestWithoutTheStore(t *testing.T) {
	const nodes, rounds = 4, 100
	for mode, want := range map[policy.StoreFailure]float64{policy.StoreFailureLocal: 1, policy.StoreFailureShare: 1.0 / nodes} {
		k := newKernel(t, ReconcileConfig{}, 1000, 200, mode)
		step := func() (admitted int) {
			for range 100 {
				admitted += k.take(1, 5)
				k.now += time.Millisecond
			}
			return admitted
		}
		step()
		k.round(nodes)
		k.now -= 100 * time.Millisecond
		admitted := 0
		for range rounds {
			k.Away(k.ticks(), nodes)
			admitted += step()
		}
		if got := float64(admitted) / (rounds * 100); got < 0.9*want || got > 1.05*want+0.02 {
			t.Errorf("%s: %.3f of the limit, want %.3f", mode, got, want)
		}
		ops := k.round(nodes)
		if len(ops) != 1 || ops[0].Hits > 120 || ops[0].Want == 0 || ops[0].Want > 200 {
			t.Errorf("%s: told %+v after %d tokens", mode, ops, admitted)
		}
	}
}

// TestLongPartition: two nodes that admitted the limit for a minute, each by itself, owe one full bucket afterwards.
func TestLongPartition(t *testing.T) {
	a, b := local(t, ReconcileConfig{Seed: 1}, 1000, 200), local(t, ReconcileConfig{Seed: 2}, 1000, 200)
	b.store = a.store
	for range 600 {
		for _, k := range []*kernel{a, b} {
			k.take(1, 200)
			k.Away(k.ticks(), 2)
			k.now += 100 * time.Millisecond
		}
	}
	a.round(2)
	b.round(2)
	if full := a.elsewhere(1, 0).Full; full > 200*time.Millisecond {
		t.Errorf("%v until the bucket is full", full)
	}
	admitted := 0
	for range 20 {
		for _, k := range []*kernel{a, b} {
			k.now -= 100 * time.Millisecond
			for range 100 {
				admitted += k.take(1, 10)
				k.now += time.Millisecond
			}
			k.round(2)
		}
	}
	if admitted < 1600 || admitted > 2400 {
		t.Errorf("%d tokens in the 2 s after, at 1000/s", admitted)
	}
}

func TestPoliciesThatCannotBeReconciled(t *testing.T) {
	good := policy.Policy{Name: "p", Algorithm: policy.AlgorithmTokenBucket, Limit: 8, Window: time.Second, Burst: 8,
		OnStoreFailure: policy.StoreFailureShare, Unit: policy.UnitBytes}
	if p, err := NewReconciledPolicy(&good); err != nil || !p.Share || p.Quantum != 8 {
		t.Errorf("%+v, %v", p, err)
	}
	for want, change := range map[string]func(*policy.Policy){
		"use token_bucket":   func(p *policy.Policy) { p.Algorithm = policy.AlgorithmFixedWindow },
		"use local or share": func(p *policy.Policy) { p.OnStoreFailure = policy.StoreFailureOpen },
		"wait to hear of it": func(p *policy.Policy) { p.OnStoreFailure = policy.StoreFailureClosed },
		"out of range":       func(p *policy.Policy) { p.Limit = 0 },
	} {
		p := good
		change(&p)
		if _, err := NewReconciledPolicy(&p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, c := range []ReconcileConfig{{Interval: time.Millisecond}, {Interval: time.Second}, {Sources: -1}, {Sources: 1 << 21}, {Reports: -1}} {
		if _, err := NewReconciler(c, BucketTable[int](&oneSource{})); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

func TestOverAdmission(t *testing.T) {
	l := &Limit{Limit: 1000, Window: time.Second, Burst: 500}
	const interval = 100 * time.Millisecond
	for _, c := range []struct {
		of   policy.Consistency
		b    Bounding
		want float64
	}{
		{policy.ConsistencyStrict, Bounding{Nodes: 10}, 0},
		{policy.ConsistencyLeased, Bounding{Nodes: 10, LeaseShare: 0.1}, 50},
		{policy.ConsistencyLocal, Bounding{Nodes: 10}, 4500},
		{policy.ConsistencyReconciled, Bounding{Nodes: 1, Interval: interval}, 0},
		{policy.ConsistencyReconciled, Bounding{Nodes: 3, Interval: interval}, 2*(500+200) + 100},
		{policy.ConsistencyReconciled, Bounding{Nodes: 3, Interval: interval, Arrival: 400}, 2*80 + 100},
		{policy.ConsistencyReconciled, Bounding{Nodes: 3, Interval: interval, Alone: true}, 1000},
	} {
		if got := OverAdmission(c.of, l, c.b); got != c.want {
			t.Errorf("%s %+v: %v, want %v", c.of, c.b, got, c.want)
		}
	}
}

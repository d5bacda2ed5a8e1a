package ratesync

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// fakeStore is the least that a store can be: exact buckets in memory, by a clock of its own, and what can go wrong.
type fakeStore struct {
	now func() time.Duration

	mu      sync.Mutex
	buckets map[ID]*fakeBucket
	ops     []Op // all that came
	broken  map[ID]bool

	// fault is asked before and after a call is done; an error loses the answer.
	before, after fault
}

type fakeBucket struct {
	debt   float64 // tokens; of windows the count of this one
	at     time.Duration
	window int64
	leases map[string]fakeLease
	grants map[uint64]uint64
}

type fakeLease struct {
	seq     uint32
	granted uint64
}

func newFakeStore(now func() time.Duration) *fakeStore {
	return &fakeStore{now: now, buckets: map[ID]*fakeBucket{}}
}

func (f *fakeStore) Do(ctx context.Context, node string, ops []Op, replies []Reply) error {
	f.mu.Lock()
	before, after := f.before, f.after
	f.mu.Unlock()
	if before != nil {
		if err := before(ctx, ops, replies); err != nil {
			return err
		}
	}
	f.do(node, ops, replies)
	if after != nil {
		return after(ctx, ops, replies)
	}
	return nil
}

type fault func(ctx context.Context, ops []Op, replies []Reply) error

// fail sets what goes wrong before and after a call is done: nil for nothing.
func (f *fakeStore) fail(before, after fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

// debt is what a bucket owes, as it was last counted.
func (f *fakeStore) debt(k limiter.Key) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.buckets[k.ID]; b != nil {
		return b.debt
	}
	return 0
}

func (f *fakeStore) do(node string, ops []Op, replies []Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops = append(f.ops, ops...)
	now := f.now()
	denied := map[int]bool{}
	for i := range ops {
		if op := &ops[i]; op.Verb == Take && op.Group != 0 && (f.broken[op.ID] || f.free(op, now) < op.Hits) {
			denied[op.Group] = true
		}
	}
	for i := range ops {
		replies[i] = f.op(node, &ops[i], now, denied[ops[i].Group])
	}
}

func (f *fakeStore) bucket(op *Op, now time.Duration) *fakeBucket {
	b := f.buckets[op.ID]
	if b == nil {
		b = &fakeBucket{at: now, leases: map[string]fakeLease{}, grants: map[uint64]uint64{}}
		f.buckets[op.ID] = b
	}
	switch op.Limit.Algorithm {
	case policy.AlgorithmConcurrency:
	case policy.AlgorithmFixedWindow, policy.AlgorithmSlidingWindow:
		if w := int64(now / op.Limit.Window); w != b.window {
			b.window, b.debt = w, 0
		}
	default:
		b.debt = max(0, b.debt-float64(now-b.at)*float64(op.Limit.Limit)/float64(op.Limit.Window))
	}
	b.at = now
	return b
}

func (f *fakeStore) free(op *Op, now time.Duration) uint64 {
	return uint64(max(0, math.Floor(float64(op.Limit.Burst)-f.bucket(op, now).debt+1e-6)))
}

func (f *fakeStore) op(node string, op *Op, now time.Duration, denied bool) (r Reply) {
	if f.broken[op.ID] {
		return Reply{Err: ErrState}
	}
	b := f.bucket(op, now)
	free := f.free(op, now)
	switch op.Verb {
	case Take:
		r.Admitted = op.Hits <= free
		if r.Admitted && !denied {
			b.debt += float64(op.Hits)
			b.grants[op.Grant] = op.Hits
		}
	case Look:
		r.Admitted = op.Hits <= free
	case Lease:
		if last := b.leases[node]; op.Seq != 0 && last.seq == op.Seq {
			r.Granted = last.granted
			break
		}
		b.debt -= float64(op.Back)
		if free += op.Back; free >= op.Hits {
			r.Granted = min(op.Want, free)
		}
		b.debt += float64(r.Granted)
		b.leases[node] = fakeLease{op.Seq, r.Granted}
	case Return:
		if hits, ok := b.grants[op.Grant]; op.Limit.Algorithm == policy.AlgorithmConcurrency {
			delete(b.grants, op.Grant)
			if ok {
				b.debt -= float64(hits)
			}
			break
		}
		b.debt = max(0, b.debt-float64(op.Hits))
	case Report:
		b.debt = min(b.debt+float64(op.Hits), float64(op.Limit.Burst))
	case Reset:
		b.debt = 0
	}
	f.tell(op, b, now, &r)
	return r
}

func (f *fakeStore) tell(op *Op, b *fakeBucket, now time.Duration, r *Reply) {
	perToken := float64(op.Limit.Window) / float64(op.Limit.Limit)
	r.Left = f.free(op, now)
	r.Full = time.Duration(b.debt * perToken)
	windowed := op.Limit.Algorithm == policy.AlgorithmFixedWindow || op.Limit.Algorithm == policy.AlgorithmSlidingWindow
	if windowed {
		r.Good = op.Limit.Window - now%op.Limit.Window
		r.Full = r.Good
	}
	if short := float64(op.Hits) - (float64(op.Limit.Burst) - b.debt); short > 0 && !r.Admitted && r.Granted == 0 {
		if r.Wait = time.Duration(math.Ceil(short * perToken)); windowed {
			r.Wait = r.Good
		}
	}
}

// counted is how many operations of a kind came.
func (f *fakeStore) counted(v Verb) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.ops {
		if f.ops[i].Verb == v {
			n++
		}
	}
	return n
}

// last is the last operation of a kind.
func (f *fakeStore) last(v Verb) (last Op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, op := range f.ops {
		if op.Verb == v {
			last = op
		}
	}
	return last
}

// openGate lets all through while it is open.
type openGate struct{ closed, ramp atomic.Bool }

func (g *openGate) Ready() bool             { return !g.closed.Load() }
func (g *openGate) Admits(hash uint64) bool { return !g.ramp.Load() || hash%2 == 0 }
func (g *openGate) Do(ctx context.Context, call func(context.Context) error) error {
	if g.closed.Load() {
		return context.Canceled
	}
	return call(ctx)
}

// machine is the real clock, of one test.
type machine struct{ start time.Time }

func (m machine) since() time.Duration { return time.Since(m.start) }
func (m machine) ticks() bucket.Ticks  { return bucket.AtNanoseconds(uint64(m.since()) + 1<<40) }
func (m machine) instant() limiter.Instant {
	return limiter.Instant{Ticks: m.ticks(), Unix: time.Duration(m.start.UnixNano()) + m.since()}
}

// peer is a sharer that runs, known to the others for long.
type peer struct {
	*Sharer
	gate *openGate
	stop func() error
}

func startPeer(t testing.TB, store Executor, m machine, nodes int, change func(*SharerOptions)) *peer {
	t.Helper()
	n := &peer{gate: &openGate{}}
	o := SharerOptions{Executor: store, Gate: n.gate, Node: t.Name(), Clock: m.ticks, CommandTimeout: time.Second, Entries: 1024, Workers: 2}
	if change != nil {
		change(&o)
	}
	var err error
	if n.Sharer, err = NewSharer(o); err != nil {
		t.Fatal(err)
	}
	n.Beat(0, nodes)
	n.Beat(0, nodes)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	for !n.running.Load() {
		runtime.Gosched()
	}
	n.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = n.stop() })
	return n
}

func (n *peer) share(t testing.TB, p policy.Policy) limiter.Shared {
	t.Helper()
	s, err := n.Share(p.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tokenPolicy(limit uint64, window time.Duration, burst uint64, c policy.Consistency) policy.Policy {
	return policy.Policy{Name: "p", Scope: policy.ScopePerUser, Limit: limit, Window: window, Burst: burst,
		Algorithm: policy.AlgorithmTokenBucket, Consistency: c, Layer: policy.LayerL7}
}

func keyOf(n byte) limiter.Key {
	return limiter.Key{Hash: uint64(n) * 0x9e3779b97f4a7c15, ID: ID{n, 1}}
}

// check is what a limiter does: take, and ask if it has to.
func check(s limiter.Store, l limiter.Shared, k limiter.Key, now limiter.Instant, hits uint64) (limiter.Outcome, limiter.Answer) {
	o, a := l.Take(k, now, hits)
	if a != limiter.Ask {
		return o, a
	}
	all := [1]limiter.Asking{{Shared: l, Key: k, Hits: hits}}
	s.Ask(context.Background(), all[:])
	return all[0].Outcome, all[0].Answer
}

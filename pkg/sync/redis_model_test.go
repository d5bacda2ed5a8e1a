package ratesync

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/policy"
)

// openRedis is a client of a server of the test's own, which may take as long as a busy machine needs.
func openRedis(t *testing.T, s *redistest.Server) *Redis {
	t.Helper()
	r, err := Open(Options{URLs: []string{"unix://" + s.Socket}, CommandTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// drawLimit draws one of those that tell algorithms and rounding apart; a bucket has one of each family.
func drawLimit(t *rapid.T) *Limit {
	a := rapid.SampledFrom([]policy.Algorithm{
		policy.AlgorithmTokenBucket, policy.AlgorithmTokenBucket, policy.AlgorithmLeakyBucket, policy.AlgorithmFixedWindow,
		policy.AlgorithmSlidingWindow, policy.AlgorithmConcurrency,
	}).Draw(t, "algorithm")
	l := &Limit{Algorithm: a}
	l.Limit = rapid.SampledFrom([]uint64{1, 2, 3, 7, 10, 100, 1000, 99_999_989, policy.MaxTokens}).Draw(t, "limit")
	l.Window = rapid.SampledFrom([]time.Duration{
		time.Second, 7 * time.Microsecond, 3 * time.Millisecond, 100 * time.Millisecond, time.Minute, 24 * time.Hour,
	}).Draw(t, "window")
	l.Burst = l.Limit
	if a == policy.AlgorithmTokenBucket || a == policy.AlgorithmLeakyBucket {
		l.Burst = rapid.SampledFrom([]uint64{1, 3, 10, 1000, policy.MaxTokens}).Draw(t, "burst")
	}
	if a == policy.AlgorithmConcurrency {
		l.Limit = min(l.Limit, 100)
	}
	if _, err := prepare(&Op{Limit: l}); err != nil { // it would take centuries to fill
		l.Burst = min(l.Burst, 1000)
	}
	return l
}

func drawOp(t *rapid.T, limits []*Limit) Op {
	which := rapid.IntRange(0, len(limits)-1).Draw(t, "bucket")
	l := limits[which]
	op := Op{ID: ID{byte(which), 7}, Limit: l}
	verbs := kinds[l.Algorithm].verbs
	var can []Verb
	for v, ok := range verbs {
		if ok && (Verb(v) != Reset || rapid.IntRange(0, 9).Draw(t, "reset") == 0) {
			can = append(can, Verb(v))
		}
	}
	op.Verb = rapid.SampledFrom(can).Draw(t, "verb")
	some := rapid.OneOf(rapid.Uint64Range(0, 5), rapid.Uint64Range(0, l.Burst+1), rapid.Just(uint64(1)))
	op.Hits = some.Draw(t, "hits")
	if l.Algorithm == policy.AlgorithmConcurrency {
		op.Hits = min(op.Hits, 1000)
		op.Grant = rapid.Uint64Range(1, 12).Draw(t, "grant")
	}
	switch op.Verb {
	case Lease:
		op.Want, op.Back = op.Hits+some.Draw(t, "more"), some.Draw(t, "back")
		op.Seq = rapid.Uint32Range(0, 6).Draw(t, "seq")
	case Report:
		op.Seq = rapid.Uint32Range(0, 6).Draw(t, "seq")
		op.Want = min(some.Draw(t, "debt"), l.Burst)
	case Take:
		op.Group = rapid.SampledFrom([]int{0, 0, 1, -2}).Draw(t, "group")
	}
	return op
}

// TestModel compares the scripts with the model: the same operations at the same times have the same replies, to the bit,
// and what is kept is kept as long.
func TestModel(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	r := openRedis(t, s)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		now := int64(1_790_000_000_000_000) + rapid.Int64Range(0, 1<<40).Draw(t, "start")
		r.clock = func() int64 { return now }
		r.prefix = "t" + strconv.Itoa(n)
		m := NewModel(r.clock)
		m.forever = true
		limits := make([]*Limit, rapid.IntRange(1, 5).Draw(t, "buckets"))
		for i := range limits {
			limits[i] = drawLimit(t)
		}
		last := map[ID]uint64{}
		for range rapid.IntRange(1, 25).Draw(t, "calls") {
			l := limits[rapid.IntRange(0, len(limits)-1).Draw(t, "pace")]
			now += rapid.OneOf(
				rapid.Int64Range(0, 10), rapid.Int64Range(0, int64(l.Window/time.Microsecond)),
				rapid.Int64Range(0, 3*int64(l.Window/time.Microsecond)), rapid.Int64Range(-2*int64(l.Window/time.Microsecond), 0),
			).Draw(t, "later")
			node := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node")
			ops := make([]Op, rapid.SampledFrom([]int{1, 1, 2, 5}).Draw(t, "ops"))
			for i := range ops {
				ops[i] = drawOp(t, limits)
				if ops[i].Verb == Return && ops[i].Grant == 0 && rapid.Bool().Draw(t, "known") {
					ops[i].Grant = last[ops[i].ID]
				}
			}
			got, want := make([]Reply, len(ops)), make([]Reply, len(ops))
			if err := r.Do(context.Background(), node, ops, got); err != nil {
				t.Fatal(err)
			}
			if err := m.Do(context.Background(), node, ops, want); err != nil {
				t.Fatal(err)
			}
			for i := range ops {
				if got[i] != want[i] {
					t.Fatalf("at %d %s: %+v of %+v:\nRedis %+v\nmodel %+v", now, node, ops[i], *ops[i].Limit, got[i], want[i])
				}
				if got[i].Err != nil {
					t.Fatalf("%+v of %+v: %v", ops[i], *ops[i].Limit, got[i].Err)
				}
				if got[i].Grant != 0 {
					last[ops[i].ID] = got[i].Grant
				}
			}
		}
		compareLives(t, r, m, now)
	})
}

// compareLives compares when Redis forgets each key with when the model would, give or take the time that the test took.
func compareLives(t *rapid.T, r *Redis, m *Model, now int64) {
	want := map[string]float64{}
	for id, h := range m.buckets {
		want[r.key(buckets, &id)] = h.expires
	}
	for id, h := range m.windows {
		want[r.key(windows, &id)] = h.expires
	}
	for id, h := range m.flights {
		if len(h.members) != 0 {
			want[r.key(flights, &id)] = h.expires
		}
	}
	keys, err := r.client.Keys(context.Background(), r.prefix+":*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		ttl, err := r.client.PTTL(context.Background(), k).Result()
		if _, known := want[k]; !known || err != nil || ttl <= 0 {
			t.Fatalf("%s is kept %v: %v, %v", k, ttl, known, err)
		}
		delete(want, k)
	}
	if len(want) != 0 {
		t.Fatalf("Redis has nothing of %v, of %v, at %d", want, keys, now)
	}
}

// TestTaking compares the script of a single take with that of all operations.
func TestTaking(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	now := int64(1_790_000_000_000_000)
	r.clock = func() int64 { return now }
	l := &Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: 3, Window: time.Second, Burst: 5}
	m := NewModel(r.clock)
	var seen []bool
	for i := range 200 {
		now += int64(i * 1237 % 400_000)
		if i%50 == 49 {
			now -= 500_000
		}
		op, got, want := []Op{{ID: ID{1}, Limit: l, Hits: uint64(i % 4 * (i % 3))}}, make([]Reply, 1), make([]Reply, 1)
		if err := r.Do(context.Background(), "n", op, got); err != nil {
			t.Fatal(err)
		}
		if err := m.Do(context.Background(), "n", op, want); err != nil {
			t.Fatal(err)
		}
		if got[0] != want[0] {
			t.Fatalf("%d: Redis %+v, model %+v", i, got[0], want[0])
		}
		seen = append(seen, got[0].Admitted)
	}
	if !slices.Contains(seen, true) || !slices.Contains(seen, false) {
		t.Error(fmt.Sprint("only one answer: ", seen[0]))
	}
}

package ratesync

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/policy"
)

var (
	tokenBucket   = &Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: 10, Window: time.Hour, Burst: 10}
	leakyBucket   = &Limit{Algorithm: policy.AlgorithmLeakyBucket, Limit: 10, Window: 10 * time.Second, Burst: 10}
	fixedWindow   = &Limit{Algorithm: policy.AlgorithmFixedWindow, Limit: 10, Window: 240 * time.Hour, Burst: 10}
	slidingWindow = &Limit{Algorithm: policy.AlgorithmSlidingWindow, Limit: 10, Window: 240 * time.Hour, Burst: 10}
	concurrency   = &Limit{Algorithm: policy.AlgorithmConcurrency, Limit: 10, Window: time.Hour, Burst: 10}
	allLimits     = []*Limit{tokenBucket, leakyBucket, fixedWindow, slidingWindow, concurrency}
)

// do does operations that must not fail as a call.
func do(t *testing.T, e Executor, ops ...Op) []Reply {
	t.Helper()
	replies := make([]Reply, len(ops))
	if err := e.Do(context.Background(), "node", ops, replies); err != nil {
		t.Fatal(err)
	}
	return replies
}

// left does operations and compares what is left after each.
func left(t *testing.T, e Executor, ops []Op, want ...uint64) {
	t.Helper()
	for i, r := range do(t, e, ops...) {
		if r.Err != nil || r.Left != want[i] {
			t.Errorf("%d: %+v: %d left, %v; want %d", i, ops[i], r.Left, r.Err, want[i])
		}
	}
}

// TestVerbs does each verb of each algorithm, by Redis' own clock, one to a call and all in one.
func TestVerbs(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	for _, l := range allLimits {
		for _, together := range []bool{false, true} {
			id := ID{1}
			if together {
				id = ID{2}
			}
			ops := []Op{
				{Verb: Take, ID: id, Limit: l, Hits: 4, Grant: 1},
				{Verb: Look, ID: id, Limit: l, Hits: 7, Grant: 2},
				{Verb: Take, ID: id, Limit: l, Hits: 7, Grant: 3},
				{Verb: Return, ID: id, Limit: l, Hits: 1},
				{Verb: Take, ID: id, Limit: l, Hits: 7, Grant: 4},
				{Verb: Reset, ID: id, Limit: l},
			}
			want := []uint64{6, 6, 6, 7, 0, 10}
			if l.Algorithm == policy.AlgorithmConcurrency {
				ops[3].Grant, ops[3].Hits = 1, 4
				want = []uint64{6, 6, 6, 10, 3, 10}
			}
			t.Run(fmt.Sprint(l.Algorithm, together), func(t *testing.T) {
				if together {
					left(t, r, ops, want...)
					return
				}
				for i := range ops {
					left(t, r, ops[i:i+1], want[i])
				}
			})
		}
	}
}

func TestLease(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	for n, l := range []*Limit{tokenBucket, fixedWindow, slidingWindow} {
		for i, c := range []struct {
			op            Op
			granted, left uint64
		}{
			{Op{Want: 4, Hits: 1, Seq: 1}, 4, 6},
			{Op{Want: 4, Hits: 1, Seq: 1}, 4, 6}, // the answer was lost
			{Op{Want: 4, Hits: 1, Seq: 2, Back: 3}, 4, 5},
			{Op{Want: 9, Hits: 1, Seq: 3}, 5, 0},
			{Op{Want: 9, Hits: 6, Seq: 4, Back: 5}, 0, 5},
			{Op{Want: 9, Hits: 6, Seq: 4, Back: 5}, 0, 5},
			{Op{Want: 2, Hits: 1, Seq: 3}, 0, 5},          // came late
			{Op{Want: 1, Hits: 1, Seq: 5, Back: 9}, 1, 4}, // the last lease was none
			{Op{Want: 1, Hits: 1, Seq: 70_000}, 1, 3},     // a node that counts anew
			{Op{Want: 2, Hits: 3, Seq: 0, Back: 1}, 3, 1}, // at least Hits
			{Op{Want: 20, Hits: 11, Seq: 70_001}, 0, 1},   // never
			{Op{Want: 20, Hits: 1, Seq: 70_002, Back: 1}, 2, 0},
		} {
			c.op.Verb, c.op.ID, c.op.Limit = Lease, ID{3, byte(n)}, l
			got := do(t, r, c.op)[0]
			if got.Err != nil || got.Granted != c.granted || got.Left != c.left {
				t.Errorf("%s %d: %+v: %+v, want %d and %d left", l.Algorithm, i, c.op, got, c.granted, c.left)
			}
			if (got.Granted == 0 && i != 6) != (got.Wait != 0) {
				t.Errorf("%s %d: a wait of %v for %d", l.Algorithm, i, got.Wait, got.Granted)
			}
			if l != tokenBucket && got.Granted != 0 && (got.Good <= 0 || got.Good > l.Window || got.Grant == 0) {
				t.Errorf("%s %d: good for %v in window %d", l.Algorithm, i, got.Good, got.Grant)
			}
		}
	}
}

func TestReport(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	for i, c := range []struct {
		op          Op
		left, total uint64
	}{
		{Op{Hits: 4, Seq: 1}, 6, 4},
		{Op{Hits: 4, Seq: 1}, 6, 4},
		{Op{Hits: 9, Seq: 2}, 0, 13},
		{Op{Hits: 0}, 0, 13},
		{Op{Verb: Reset}, 10, 0},
		{Op{Hits: 1, Seq: 2, Want: 5}, 5, 1},
		{Op{Want: 3}, 5, 1},
	} {
		if c.op.ID, c.op.Limit = (ID{4}), tokenBucket; c.op.Verb != Reset {
			c.op.Verb = Report
		}
		if got := do(t, r, c.op)[0]; got.Err != nil || got.Left != c.left || got.Total != c.total {
			t.Errorf("%d: %+v: %+v, want %d left of %d", i, c.op, got, c.left, c.total)
		}
	}
}

// TestGroup takes all or none, of all algorithms in one call.
func TestGroup(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	var ops []Op
	for i, l := range allLimits {
		ops = append(ops, Op{ID: ID{byte(i)}, Limit: l, Hits: 6, Grant: uint64(i + 1), Group: 1})
	}
	ops = append(ops, Op{ID: ID{9}, Limit: tokenBucket, Hits: 6, Group: 2}) // of another request
	left(t, r, ops, 4, 4, 4, 4, 4, 4)
	last := len(allLimits) - 1
	for i := range ops {
		ops[i].Hits, ops[i].Grant = 2, ops[i].Grant+10
	}
	ops[last].Hits = 5 // denies, being the last
	ops[last+1].Hits = 1
	left(t, r, ops, 4, 4, 4, 4, 4, 3)
	for i, reply := range do(t, r, ops...) {
		if reply.Admitted != (i != last) {
			t.Errorf("%d: admitted: %v", i, reply.Admitted)
		}
	}
	for i := range ops {
		ops[i].Hits, ops[i].Grant = 2, ops[i].Grant+10
	}
	left(t, r, ops, 2, 2, 2, 2, 2, 0)
}

// TestManyKeys takes of more buckets than a script call has, in one call and one group.
func TestManyKeys(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	ops := make([]Op, 1000)
	for i := range ops {
		ops[i] = Op{ID: ID{byte(i), byte(i >> 8)}, Limit: tokenBucket, Hits: 3, Group: 7}
	}
	for i, reply := range do(t, r, ops...) {
		if !reply.Admitted || reply.Left != 7 {
			t.Fatalf("%d: %+v", i, reply)
		}
	}
	if s := r.Stats(); s.Keys < 1000 || s.Commands < 8 || s.Commands > 17 || s.RoundTrips > 2 {
		t.Errorf("%+v for 1000 keys", s)
	}
	ops[500].Hits = 8
	denied := 0
	for _, reply := range do(t, r, ops...) {
		if !reply.Admitted {
			denied++
		}
	}
	if denied != 1 {
		t.Errorf("%d denied", denied)
	}
	for i, reply := range do(t, r, ops...) {
		if reply.Left != 7 {
			t.Fatalf("%d: %d left after a denial", i, reply.Left)
		}
	}
}

// TestState puts into Redis what is not weir's, under the key of one of three operations.
func TestState(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	r := openRedis(t, s)
	garbage := []string{"nan", "-nan", "inf", "-inf", "-1", "1e400", "", " 1", "1 ", "0x10", "1\x002", "\xff\xfe\x00", "12345678901234567890123456789012345", "1,5", "9007199254740993000", "--1", "1e"}
	for _, l := range allLimits {
		f := kinds[l.Algorithm].family
		id := ID{200}
		key := r.key(f, &id)
		broken := func(t *testing.T, what string, put ...any) {
			t.Helper()
			ctx := context.Background()
			r.client.Del(ctx, key)
			if err := r.client.Do(ctx, put...).Err(); err != nil {
				t.Fatal(err)
			}
			before, _ := r.client.Dump(ctx, key).Result()
			for _, verb := range []Verb{Take, Look, Return} {
				op := Op{Verb: verb, ID: id, Limit: l, Hits: 1, Grant: 5}
				ok := Op{Verb: Look, ID: ID{201}, Limit: l, Hits: 1, Grant: 5}
				alone, among := do(t, r, op), do(t, r, ok, op, ok)
				if alone[0].Err != ErrState || among[1].Err != ErrState {
					t.Errorf("%s: verb %d: %+v, %+v", what, verb, alone[0], among[1])
				}
				if among[0].Err != nil || !among[0].Admitted || among[2].Err != nil {
					t.Errorf("%s: verb %d: beside it: %+v, %+v", what, verb, among[0], among[2])
				}
			}
			grouped := do(t, r, Op{ID: ID{202}, Limit: l, Hits: 1, Grant: 1, Group: 1}, Op{ID: id, Limit: l, Hits: 1, Group: 1})
			if grouped[1].Err != ErrState || grouped[0].Left != 10 {
				t.Errorf("%s: a group with it: %+v", what, grouped)
			}
			if after, _ := r.client.Dump(ctx, key).Result(); after != before {
				t.Errorf("%s: it was changed", what)
			}
			left(t, r, []Op{{Verb: Reset, ID: id, Limit: l}, {Verb: Take, ID: id, Limit: l, Hits: 1, Grant: 6}}, 10, 9)
		}
		t.Run(string(l.Algorithm), func(t *testing.T) {
			broken(t, "string", "SET", key, "1")
			broken(t, "list", "RPUSH", key, "1")
			broken(t, "set", "SADD", key, "1")
			switch f {
			case flights:
				broken(t, "hash", "HSET", key, "d", "1", "t", "1")
				broken(t, "inf", "ZADD", key, "inf", "x")
				broken(t, "late", "ZADD", key, "1e300", "x")
			case buckets:
				broken(t, "zset", "ZADD", key, "1", "x")
				broken(t, "stranger", "HSET", key, "a", "1")
				broken(t, "half", "HSET", key, "d", "1")
				broken(t, "half", "HSET", key, "t", "1")
				broken(t, "large", "HSET", key, "d", "1e13", "t", "1")
				for _, g := range garbage {
					broken(t, "debt "+g, "HSET", key, "d", g, "t", "1")
					broken(t, "time "+g, "HSET", key, "d", "1", "t", g)
				}
			case windows:
				broken(t, "zset", "ZADD", key, "1", "x")
				broken(t, "stranger", "HSET", key, "a", "1")
				broken(t, "half", "HSET", key, "w", "0")
				for _, g := range append(garbage, "1.5") {
					for _, name := range []string{"w", "c", "p", "t", "u"} {
						broken(t, name+" "+g, "HSET", key, "w", "0", "c", "0", name, g)
					}
					broken(t, "lease "+g, "HSET", key, "w", "0", "c", "0", "n:node", g)
				}
			}
		})
	}
	if n := r.Stats().Errors[ClassState]; n == 0 {
		t.Error("no errors of class state")
	}
}

// TestLeaseState is of the fields that only leases and reports read.
func TestLeaseState(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	id := ID{5}
	for field, verb := range map[string]Verb{"n:node": Lease, "r:node": Report, "c": Report} {
		for _, g := range []string{"x", "1:", ":1", "-1:1", "1:99999999999999", "99999999999:1", "1:1:1", "1:1e1", ""} {
			r.client.HSet(context.Background(), r.key(buckets, &id), "d", "1", "t", "1", field, g)
			if got := do(t, r, Op{Verb: verb, ID: id, Limit: tokenBucket, Hits: 1, Want: 1, Seq: 1})[0]; got.Err != ErrState {
				t.Errorf("%s %q: %+v", field, g, got)
			}
			r.client.Del(context.Background(), r.key(buckets, &id))
		}
	}
}

// TestLives looks at when Redis forgets what each algorithm keeps.
func TestLives(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	r := openRedis(t, s)
	for i, l := range allLimits {
		do(t, r, Op{ID: ID{byte(i)}, Limit: l, Hits: 5, Grant: 1})
	}
	for i, l := range allLimits {
		id := ID{byte(i)}
		ttl, err := r.client.PTTL(context.Background(), r.key(kinds[l.Algorithm].family, &id)).Result()
		least, most := time.Duration(0), 2*l.Window+10*time.Second
		switch l.Algorithm {
		case policy.AlgorithmTokenBucket, policy.AlgorithmLeakyBucket:
			least, most = l.Window/2, l.Window/2+10*time.Second
		case policy.AlgorithmConcurrency:
			least, most = l.Window, l.Window+10*time.Second
		}
		if err != nil || ttl <= least || ttl > most {
			t.Errorf("%s: kept for %v, %v; want %v to %v", l.Algorithm, ttl, err, least, most)
		}
	}
}

func TestUnknownScripts(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	r := openRedis(t, s)
	ops := []Op{{ID: ID{1}, Limit: tokenBucket, Hits: 1}, {Verb: Look, ID: ID{2}, Limit: fixedWindow, Hits: 1}}
	left(t, r, ops, 9, 10)
	left(t, r, ops[:1], 8)
	if _, err := s.CLI("SCRIPT", "FLUSH"); err != nil {
		t.Fatal(err)
	}
	before := r.Stats().RoundTrips
	left(t, r, ops[:1], 7)
	left(t, r, ops, 6, 10)
	left(t, r, ops, 5, 10)
	if n := r.Stats().RoundTrips - before; n != 5 {
		t.Errorf("%d round trips for three calls, of which two were of unknown scripts", n)
	}
}

// TestPrefixes keeps two clusters on one Redis apart.
func TestPrefixes(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	var all []*Redis
	for _, prefix := range []string{"a", "ab", ""} {
		r, err := Open(Options{URLs: []string{"unix://" + s.Socket}, KeyPrefix: prefix, CommandTimeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		all = append(all, r)
	}
	for i, l := range allLimits {
		for _, r := range all {
			left(t, r, []Op{{ID: ID{byte(i)}, Limit: l, Hits: 3, Grant: 1}}, 7)
		}
		left(t, all[0], []Op{{Verb: Reset, ID: ID{byte(i)}, Limit: l}}, 10)
		left(t, all[1], []Op{{ID: ID{byte(i)}, Limit: l, Hits: 3, Grant: 2}}, 4)
	}
	keys, err := s.CLI("KEYS", "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range strings.Fields(keys) {
		if !strings.HasPrefix(k, "ab:") && !strings.HasPrefix(k, "weir:") {
			t.Errorf("key %s", k)
		}
	}
}

// TestBadOps are of operations that are the caller's mistake: they fail alone.
func TestBadOps(t *testing.T) {
	r := openRedis(t, redistest.Start(t, redistest.Options{}))
	slow := *tokenBucket
	slow.Limit, slow.Window, slow.Burst = 1, 24*time.Hour, policy.MaxTokens
	for _, op := range []Op{
		{ID: ID{1}}, {Limit: &Limit{Algorithm: policy.AlgorithmTokenBucket}}, {Limit: &slow}, {Verb: Reset + 1, Limit: tokenBucket},
		{Verb: Lease, Limit: leakyBucket}, {Verb: Lease, Limit: concurrency}, {Verb: Report, Limit: fixedWindow},
		{Limit: &Limit{Algorithm: policy.AlgorithmConcurrency, Limit: 5000, Window: time.Second}, Hits: 2000},
		{Limit: &Limit{Algorithm: "none", Limit: 1, Window: 1, Burst: 1}},
	} {
		for _, e := range []Executor{r, NewModel(func() int64 { return 1 })} {
			got := do(t, e, op, Op{ID: ID{9}, Limit: tokenBucket, Verb: Look, Hits: 1})
			if got[0].Err == nil || errors.Is(got[0].Err, ErrState) || got[1].Err != nil {
				t.Errorf("%+v: %+v", op, got)
			}
		}
	}
}

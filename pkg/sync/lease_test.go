package ratesync

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

func BenchmarkLeasedTake(b *testing.B) {
	store, m := newFakeStore(machine{time.Now()}.since), machine{time.Now()}
	n := startPeer(b, store, m, 1, nil)
	l := n.share(b, tokens(1<<36, time.Second, 1<<38, policy.ConsistencyLeased))
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
	l := n.share(b, tokens(100, time.Hour, 100, policy.ConsistencyLeased))
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

func BenchmarkStrictAsk(b *testing.B) {
	store, m := newFakeStore(machine{time.Now()}.since), machine{time.Now()}
	n := startPeer(b, store, m, 1, nil)
	l := n.share(b, tokens(1<<30, time.Second, 1<<30, policy.ConsistencyStrict))
	store.before = nil
	now := m.instant()
	b.ReportAllocs()
	for b.Loop() {
		check(n, l, keyOf(1), now, 1)
		store.ops = store.ops[:0]
	}
}

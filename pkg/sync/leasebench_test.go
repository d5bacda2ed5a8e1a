package ratesync

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

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

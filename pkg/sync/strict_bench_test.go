package ratesync

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// BenchmarkStrict compares a strict decision with the least that a script call costs, on pools of the same size, by how many
// ask at once.
func BenchmarkStrict(b *testing.B) {
	server := redistest.Start(b, redistest.Options{})
	r, err := Open(Options{URLs: []string{"unix://" + server.Socket}, CommandTimeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	m := machine{time.Now()}
	n := startPeer(b, r, m, 1, func(o *SharerOptions) { o.CommandTimeout, o.Workers = time.Second, DefaultPoolSize })
	l := n.share(b, tokenPolicy(1_000_000_000, time.Second, 1_000_000_000, policy.ConsistencyStrict))
	ctx := context.Background()
	bare, err := r.client.ScriptLoad(ctx, "return 1").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, askers := range []int{1, 16, 64, 256} {
		for name, once := range map[string]func(i int) error{
			"bare": func(i int) error { return r.client.EvalSha(ctx, bare, []string{fmt.Sprint("k", i%10_000)}).Err() },
			"weir": func(i int) error {
				k := limiter.Key{Hash: uint64(i)}
				binary.BigEndian.PutUint64(k.ID[:], uint64(i%10_000)*0x9e3779b97f4a7c15)
				if o, a := check(n, l, k, m.instant(), 1); a != limiter.Decided || !o.Admitted {
					return fmt.Errorf("%v %+v", a, o)
				}
				return nil
			},
		} {
			b.Run(fmt.Sprint(name, "/", askers), func(b *testing.B) {
				b.ReportAllocs()
				var next atomic.Int64
				var all sync.WaitGroup
				for range askers {
					all.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if err := once(int(i)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}

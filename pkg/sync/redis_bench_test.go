package ratesync

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/policy"
)

// BenchmarkTake compares a strict decision with the least that a script call costs, on a pool of the same size; batch is
// how many decisions share a round trip.
func BenchmarkTake(b *testing.B) {
	s := redistest.Start(b, redistest.Options{})
	r, err := Open(Options{URLs: []string{s.URL}, CommandTimeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	ctx := context.Background()
	limit := &Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: 1_000_000, Window: time.Second, Burst: 1_000_000}
	bare, err := r.client.ScriptLoad(ctx, "return 1").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, batch := range []int{1, 32} {
		each := func(b *testing.B, call func(i int) error) {
			b.SetParallelism(DefaultPoolSize)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if i%batch == 0 {
						if err := call(i / batch); err != nil {
							b.Error(err)
							return
						}
					}
				}
			})
		}
		b.Run(fmt.Sprint("bare/", batch), func(b *testing.B) {
			each(b, func(int) error {
				if batch == 1 {
					return r.client.EvalSha(ctx, bare, []string{"k"}, 1).Err()
				}
				_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
					for range batch {
						p.EvalSha(ctx, bare, []string{"k"}, 1)
					}
					return nil
				})
				return err
			})
		})
		b.Run(fmt.Sprint("take/", batch), func(b *testing.B) {
			each(b, func(i int) error {
				ops, replies := make([]Op, batch), make([]Reply, batch)
				for j := range ops {
					ops[j] = Op{ID: ID{byte(j), byte(i)}, Limit: limit, Hits: 1}
				}
				return r.Do(ctx, "node", ops, replies)
			})
		})
	}
}

// BenchmarkModel is of the model, by which simulations are as fast as they are.
func BenchmarkModel(b *testing.B) {
	now := int64(1_790_000_000_000_000)
	m := NewModel(func() int64 { now++; return now })
	limit := &Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: 1000, Window: time.Second, Burst: 1000}
	ops, replies := make([]Op, 1), make([]Reply, 1)
	b.ReportAllocs()
	for i := range b.N {
		ops[0] = Op{Verb: Report, ID: ID{byte(i)}, Limit: limit, Hits: 1, Seq: uint32(i)}
		if err := m.Do(context.Background(), "node", ops, replies); err != nil {
			b.Fatal(err)
		}
	}
}

package ratesync

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestSharersOnRedis: three nodes, many at once, and exactly as many admitted as the bucket holds.
func TestSharersOnRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	for _, c := range []policy.Consistency{policy.ConsistencyStrict, policy.ConsistencyLeased} {
		for _, a := range []policy.Algorithm{policy.AlgorithmTokenBucket, policy.AlgorithmFixedWindow, policy.AlgorithmSlidingWindow} {
			t.Run(fmt.Sprint(c, " ", a), func(t *testing.T) {
				p := tokenPolicy(2000, 24*time.Hour, 2000, c)
				p.Algorithm = a
				k := limiter.Key{Hash: 7, ID: ID{1, c[0], a[0]}}
				var admitted atomic.Int64
				var peers []*peer
				var all sync.WaitGroup
				m := machine{time.Now()}
				for i := range 3 {
					n := startPeer(t, openRedis(t, server), m, 3, func(o *SharerOptions) { o.Node, o.CommandTimeout = fmt.Sprint("n", i), 5*time.Second })
					l := n.share(t, p)
					peers = append(peers, n)
					for range 16 {
						all.Go(func() {
							for range 80 {
								n.Beat(0, 3) // the machine may be busy for longer than a lease lives
								o, answer := check(n, l, k, m.instant(), 1)
								for answer == limiter.Decided && !o.Admitted && o.RetryAfter < time.Second {
									time.Sleep(o.RetryAfter) // of a pause, after which there is more
									o, answer = check(n, l, k, m.instant(), 1)
								}
								if answer != limiter.Decided {
									t.Error(answer)
								} else if o.Admitted {
									admitted.Add(1)
								}
							}
						})
					}
				}
				all.Wait()
				ops := uint64(0)
				for _, n := range peers {
					if err := n.stop(); err != nil {
						t.Error(err)
					}
					ops += n.Figures().Ops
				}
				// What one holds, another doesn't get; at the end most of it is used up.
				if got := admitted.Load(); got > 2000 || got < 1860 {
					t.Errorf("admitted %d of 2000", got)
				}
				t.Logf("admitted %d; %d operations", admitted.Load(), ops)
			})
		}
	}
}

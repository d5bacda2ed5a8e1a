package ratesync_test

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

// The worked example of docs/ARCHITECTURE.md: one of three nodes, alice's bucket of 600 tokens at 10 a second, and a request of
// hers every 10 ms. What is not decided by what the node holds asks the store, which is the model of Redis' scripts.
func ExampleLeases() {
	const start = 1_800_000_000_000_000
	now := time.Duration(0)
	ticks := func() bucket.Ticks { return bucket.AtNanoseconds(uint64(time.Hour + now)) }
	store := ratesync.NewModel(func() int64 { return start + now.Microseconds() })
	leases := ratesync.NewLeases(ratesync.LeaseOptions{Entries: 1024, Share: 0.1, Seq: 0})
	leases.SetNodes(3)
	leases.SetBeat(ticks())
	leases.SetBeat(ticks())
	terms, err := leases.Terms(ratesync.Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: 600, Window: time.Minute, Burst: 600})
	if err != nil {
		fmt.Println(err)
		return
	}
	alice := limiter.Key{Hash: 0x5eed, ID: ratesync.ID{0x2a}}
	fmt.Printf("at most %d tokens for this node\n", leases.Cap(terms))

	ask := func(hits uint64) {
		p, ok := leases.Plan(terms, alice, ticks(), hits, hits)
		if !ok {
			return
		}
		replies := make([]ratesync.Reply, 1)
		if err := store.Do(context.Background(), "node", []ratesync.Op{p.Op}, replies); err != nil {
			fmt.Println(err)
		}
		fmt.Printf("   asks for %d to %d: gets %d, %d left in the store\n", p.Op.Hits, p.Op.Want, replies[0].Granted, replies[0].Left)
		leases.Apply(&p, replies[0], nil, ticks())
	}
	for request := 1; request <= 60; request++ {
		o, a, low := leases.Take(terms, alice, ticks(), 1)
		if a == limiter.Ask {
			fmt.Printf("request %d waits\n", request)
			ask(1)
			o, _, low = leases.Take(terms, alice, ticks(), 1)
		} else if low {
			fmt.Printf("request %d passes, and runs low\n", request)
		}
		if low {
			ask(0)
		}
		if request == 60 {
			fmt.Printf("request %d: admitted %v, %d remain\n", request, o.Admitted, o.Remaining)
		}
		now += 10 * time.Millisecond
	}
	// Output:
	// at most 20 tokens for this node
	// request 1 waits
	//    asks for 1 to 1: gets 1, 599 left in the store
	// request 2 waits
	//    asks for 1 to 20: gets 20, 579 left in the store
	// request 18 passes, and runs low
	//    asks for 1 to 17: gets 17, 563 left in the store
	// request 36 passes, and runs low
	//    asks for 1 to 18: gets 18, 547 left in the store
	// request 51 passes, and runs low
	//    asks for 1 to 15: gets 15, 534 left in the store
	// request 60: admitted true, 545 remain
}

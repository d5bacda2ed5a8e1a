package bucket_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// The worked example of docs/ARCHITECTURE.md: packets from 192.0.2.1 at 1000 packets/s, burst 200, new_sources
// 1000/s, one hour after a machine with two CPUs started. The secret is 1 and 2 here; a real one is random.
func Example() {
	limit, _ := bucket.NewLimit(1000, time.Second, 200)
	fmt.Println("token time", limit.TokenTime, "ticks, depth", limit.Depth, "ticks")
	const cpus, jiffy = 2, 4 * time.Millisecond
	rate := bucket.NewRate(limit, cpus, jiffy)
	fmt.Println("lease", rate.Lease, "tokens for each CPU; denials are timed by jiffies:", rate.Coarse == 1)

	secret := bucket.Secret{1, 2}
	key := bucket.DeriveKey(secret, "per_ip", "per-client")
	hash := key.Hash(bucket.NewMask(32, 64), netip.MustParseAddr("192.0.2.1"))
	const entries = 1 << 20
	table, _ := bucket.NewTable(make([]byte, entries/bucket.SetWays*bucket.SetSize))
	fmt.Printf("hash %#016x, slot %d, set %#x, fingerprint %#x\n",
		hash, bucket.SlotIndex(hash), hash%uint64(table.Sets()), bucket.Fingerprint(hash))

	newSources, _ := bucket.NewLimit(1000, time.Second, 1000)
	strangers := bucket.NewRate(newSources, cpus, jiffy)
	strangersKey := bucket.DeriveKey(secret, "new_sources", "per-client")
	strangersHash := strangersKey.HashGlobal()
	fmt.Printf("strangers: hash %#016x, set %#x\n", strangersHash, strangersHash%uint64(table.Sets()))

	now := bucket.AtNanoseconds(uint64(time.Hour))
	fmt.Println("now", uint64(now))
	clock := bucket.Clock{Exact: now, Jiffies: 900_000, Jiffy: jiffy}
	slots := bucket.Slots{Table: table}
	send := func() bool {
		flags, known := slots.TakeNew(hash, &rate, strangersHash, &strangers, clock, 1, true)
		return known && flags&bucket.Admitted != 0
	}
	admitted := 0
	for admitted < 9 && send() {
		admitted++
		entry, _ := table.Lookup(hash)
		fmt.Println("packet", admitted, "used", entry.Used, "TAT now +", uint64(entry.TAT-now))
	}
	for send() {
		admitted++
	}
	entry, _ := table.Lookup(hash)
	fmt.Println("admitted at that instant:", admitted, "and then the wait is", limit.Wait(entry.TAT, now, 1).Duration())

	// The slot remembers it until the next jiffy, whatever the exact clock says; what flows in meanwhile is not lost.
	clock.Exact += bucket.AtNanoseconds(uint64(jiffy))
	fmt.Println("admitted before the horizon:", send())
	clock.Jiffies++
	admitted = 0
	for send() {
		admitted++
	}
	fmt.Println("admitted after it:", admitted)
	// Output:
	// token time 256000000 ticks, depth 51200000000 ticks
	// lease 6 tokens for each CPU; denials are timed by jiffies: true
	// hash 0xd5d13a9f2463bdb3, slot 465, set 0x3bdb3, fingerprint 0xd5d13a9f
	// strangers: hash 0xb017c72dfbcef588, set 0x2f588
	// now 921600000000000
	// packet 1 used 1 TAT now + 256000000
	// packet 2 used 8 TAT now + 2048000000
	// packet 3 used 8 TAT now + 2048000000
	// packet 4 used 8 TAT now + 2048000000
	// packet 5 used 8 TAT now + 2048000000
	// packet 6 used 8 TAT now + 2048000000
	// packet 7 used 8 TAT now + 2048000000
	// packet 8 used 8 TAT now + 2048000000
	// packet 9 used 15 TAT now + 3840000000
	// admitted at that instant: 200 and then the wait is 1ms
	// admitted before the horizon: false
	// admitted after it: 4
}

package bucket_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// The worked example of docs/ARCHITECTURE.md: one packet from 192.0.2.1 at 1000 packets/s, burst 200,
// one hour after the machine started. The secret is 1 and 2 here; a real one is random.
func Example() {
	limit, _ := bucket.NewLimit(1000, time.Second, 200)
	fmt.Println("token time", limit.TokenTime, "ticks, depth", limit.Depth, "ticks")

	key := bucket.DeriveKey(bucket.Secret{1, 2}, "per_ip", "per-client")
	hash := key.Hash(bucket.NewMask(32, 64), netip.MustParseAddr("192.0.2.1"))
	const entries = 1 << 20
	table, _ := bucket.NewTable(make([]byte, entries/bucket.SetWays*bucket.SetSize))
	fmt.Printf("hash %#016x, set %#x, fingerprint %#x\n", hash, hash%uint64(table.Sets()), bucket.Fingerprint(hash))

	now := bucket.AtNanoseconds(uint64(time.Hour))
	fmt.Println("now", uint64(now))
	fmt.Printf("first packet: flags %04b\n", table.Take(hash, &limit, now, 1, true))
	entry, _ := table.Lookup(hash)
	fmt.Println("TAT", uint64(entry.TAT), "which is now +", uint64(entry.TAT-now))

	admitted := 1
	for table.Take(hash, &limit, now, 1, true)&bucket.Admitted != 0 {
		admitted++
	}
	entry, _ = table.Lookup(hash)
	fmt.Println("admitted at that instant:", admitted, "and then the wait is", limit.Wait(entry.TAT, now, 1).Duration())
	// Output:
	// token time 256000000 ticks, depth 51200000000 ticks
	// hash 0xd5d13a9f2463bdb3, set 0x3bdb3, fingerprint 0xd5d13a9f
	// now 921600000000000
	// first packet: flags 0011
	// TAT 921600256000000 which is now + 256000000
	// admitted at that instant: 200 and then the wait is 1ms
}

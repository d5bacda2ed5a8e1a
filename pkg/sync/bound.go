package ratesync

import (
	"math"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Bounding is what a bound depends on besides the policy.
type Bounding struct {
	Nodes      int
	LeaseShare float64       // leased: see [DefaultLeaseShare]
	Interval   time.Duration // reconciled: between rounds
	// Arrival is what one source offers to one node at the most, in tokens a second. 0: nobody knows.
	Arrival float64
	// Alone says that the store is away and each node admits what its policy's on_store_failure says: share or local.
	Alone bool
}

// OverAdmission is by how many tokens the nodes together may admit more than burst + rate * t of a bucket, in any interval
// t. While nodes are alone it is by how many they may more than nodes * rate * t under on_store_failure local, and more than
// rate * t under share.
//
// strict admits no more at all, and leased what is debited and not used: the lease share of a burst. reconciled hears of a
// use after two intervals at the latest, one until it is told and one until it is heard. Until then each of the other nodes
// can admit what arrives, but no more than a bucket holds and gains meanwhile:
//
//	(nodes - 1) * min(burst + rate * 2 interval, arrival * 2 interval)
//
// and less than its part of the limit a node need not tell at all, which is rate * interval for all. A bucket that fills
// in less than two intervals is credited what it gains until the others' use is heard: up to rate * 2 interval - burst.
func OverAdmission(c policy.Consistency, l *Limit, b Bounding) float64 {
	burst := float64(l.Burst)
	others := float64(max(b.Nodes, 1) - 1)
	if b.Alone {
		return others * burst
	}
	switch c {
	case policy.ConsistencyStrict:
		return 0
	case policy.ConsistencyLeased:
		return b.LeaseShare * burst
	case policy.ConsistencyReconciled:
		if others == 0 {
			return 0
		}
		gain := float64(l.Limit) * float64(b.Interval) / float64(l.Window)
		node := burst + lag*gain
		if b.Arrival > 0 {
			node = min(node, lag*b.Arrival*b.Interval.Seconds())
		}
		return others*node + gain + math.Max(0, lag*gain-burst)
	default:
		return others * burst
	}
}

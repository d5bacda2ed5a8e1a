package simulation

import (
	"testing"
	"time"
)

// crowd has two nodes that hold their halves be cut off while others join, who hold their parts of what is then divided by
// more; and then everybody come. It returns how near it came to the bound of leases.
func crowd(seed uint64, join int) float64 {
	c := NewLeaseCluster(LeaseConfig{Seed: seed, Nodes: 2, Delay: 2 * Step, Share: 1, Limits: tokens(90, 90)})
	none := func(*LeaseCluster, int, int) int { return 0 }
	some := func(c *LeaseCluster, node, _ int) int {
		if c.Nodes[node].cut || c.Now%(30*time.Millisecond) != 0 {
			return 0
		}
		return 1
	}
	all := func(*LeaseCluster, int, int) int { return 5 }
	c.Run(3*time.Second, none)
	c.Run(3090*time.Millisecond, some)
	c.Run(4*time.Second, none)
	c.cut(2, true)
	for range join {
		c.Join()
	}
	c.Run(5100*time.Millisecond, none)
	c.Run(5190*time.Millisecond, some)
	c.Run(6100*time.Millisecond, none)
	c.Run(6300*time.Millisecond, all)
	return c.Meters[0].Highest() / c.Bound(0)
}

// TestCrowdHoldsMore: what is promised of leases does not hold while nodes join whom others, cut off, have not heard of.
// This is how much more it is, lest it grow, until newcomers wait for as long as a heartbeat is good.
func TestCrowdHoldsMore(t *testing.T) {
	worst := 0.0
	for seed := range uint64(100) {
		worst = max(worst, crowd(seed, 8))
	}
	t.Logf("8 nodes join while 2 are cut off: %.2f of the bound, with a lease share of 1", worst)
	if worst > 1.5 {
		t.Errorf("%.2f of the bound", worst)
	}
}

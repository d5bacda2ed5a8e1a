package simulation

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	ratesync "github.com/weir-limiter/weir/pkg/sync"
)

func limit(limit uint64, window time.Duration, burst uint64) ratesync.Limit {
	return ratesync.Limit{Algorithm: policy.AlgorithmTokenBucket, Limit: limit, Window: window, Burst: burst}
}

// spray sends a source evenly to all nodes, at so many times its limit.
func spray(times float64) func(c *Cluster, node, source int) int {
	return func(c *Cluster, node, source int) int {
		l := &c.Limits[source]
		return about(times*float64(l.Limit)*float64(Step)/float64(l.Window)/float64(len(c.Nodes)), c.random)
	}
}

func TestGrowth(t *testing.T) {
	for _, burst := range []uint64{1, 20, 100, 200, 1000} {
		for _, nodes := range []int{2, 3, 10, 100, 1000} {
			c := New(Config{Seed: 1, Nodes: nodes, Delay: time.Millisecond, Limits: []ratesync.Limit{limit(1000, time.Second, burst)}})
			c.Run(time.Second, spray(20))
			first := c.Meters[0].Admitted
			c.Run(5*time.Second, spray(20))
			half := c.Meters[0].Admitted
			c.Run(10*time.Second, spray(20))
			l := c.Limits[0]
			allowed := float64(l.Burst) + float64(l.Limit)*10
			t.Logf("burst %4d %4d nodes: admitted/allowed %.4f; after 1s /rate %.4f after 5s %.4f; above rate*t %.0f, of which over %.0f; ops/1000 %.2f, ops/s %.0f", burst,
				nodes, c.Meters[0].Admitted/allowed, (c.Meters[0].Admitted-first)/9000, (c.Meters[0].Admitted-half)/5000, c.Meters[0].Highest(), c.Meters[0].Highest()-float64(l.Burst),
				1000*float64(c.Ops)/float64(c.Decided), float64(c.Ops)/10)
		}
	}
}

package ratesync

import (
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// windowSeen is a window of the store: its [Reply.Grant], and when it ends by this node's clock, give or take a round trip.
type windowSeen struct {
	grant uint64
	end   bucket.Ticks
}

// saw notes of which window a lease is. All buckets of a limit have the same windows, so that it is written once in each.
func (t *Terms) saw(grant uint64, end bucket.Ticks) {
	if seen := t.window.Load(); seen == nil || seen.grant != grant {
		t.window.Store(&windowSeen{grant, end})
	}
}

// grantOf is what [Return] needs to know of tokens that were admitted: of which window they are. What a lease admitted knows when
// its window ends, and windows follow one another without a gap. 0: nothing is known, or need be.
func (t *Terms) grantOf(o limiter.Outcome) uint64 {
	if !t.windowed || o.Grant != 0 {
		return o.Grant
	}
	seen := t.window.Load()
	if seen == nil || o.Found[0] == 0 {
		return 0
	}
	length := ticksOf(t.limit.Window)
	later, ago := bucket.Debt(o.Found[0]+length/2, seen.end)/length, bucket.Debt(seen.end+length/2, o.Found[0])/length
	micros := uint64((t.limit.Window + time.Microsecond - 1) / time.Microsecond)
	return seen.grant + uint64(later)*micros - min(uint64(ago)*micros, seen.grant)
}

package limiter

import (
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestBeforeTheEpoch: a machine without a battery may believe that it is 1969. Windows are as long as ever, and no
// one takes the place of the first of 1970.
func TestBeforeTheEpoch(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.AlgorithmFixedWindow, policy.AlgorithmSlidingWindow} {
		t.Run(string(a), func(t *testing.T) {
			c := newFakeClock()
			c.unix = -time.Second
			r := newRuled(t, c, a, 4, 10*time.Second, 0)
			if o := r.take(4); !o.Admitted || a == policy.AlgorithmFixedWindow && o.ResetAfter != time.Second {
				t.Errorf("%+v, want a window that ends in a second", o)
			}
			if o := r.take(1); o.Admitted || o.RetryAfter > 11*time.Second {
				t.Errorf("%+v", o)
			}
			c.advance(time.Second)
			if o := r.take(4); o.Admitted != (a == policy.AlgorithmFixedWindow) {
				t.Errorf("%+v, in the window that begins with 1970", o)
			}
		})
	}
}

package ratesync

import (
	"context"
	"time"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// settleEvery is how often the store is told what was admitted without it although it is there: a call or two had no answer, or
// not all buckets go to it again.
const settleEvery = time.Second

// Spent notes what on_store_failure admitted.
func (h *shared) Spent(k limiter.Key, now limiter.Instant, hits uint64) {
	h.s.leases.Spent(h.terms, k, now.Ticks, hits)
	if !h.s.owing.Load() {
		h.s.owing.Store(true)
	}
}

// settle tells the store what this node owes it, until ctx ends, as long as nobody has to recover for that.
func (s *Sharer) settle(ctx context.Context) {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.ready() && s.owing.Swap(false) && s.Recover(ctx) != nil {
			s.owing.Store(true)
		}
	}
}

// keep keeps what ended of a call without an answer: of what is in flight nothing goes back by itself for as long as a window,
// and to end it twice does no harm.
func (s *Sharer) keep(ops []Op) {
	for _, op := range ops {
		if op.Verb != Return || op.Limit.Algorithm != policy.AlgorithmConcurrency {
			continue
		}
		select {
		case s.kept <- op:
		default:
			s.figures.dropped.Add(op.Hits)
		}
	}
}

// resume has what was kept ride along with the next call, after one that was answered.
func (s *Sharer) resume() {
	for len(s.returns) < cap(s.returns)/2 { // the rest is for those that come now
		select {
		case op := <-s.kept:
			select {
			case s.returns <- op:
			default:
				s.figures.dropped.Add(op.Hits)
			}
		default:
			return
		}
	}
}

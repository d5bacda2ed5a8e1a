package nodes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// asking is a load of requests on several nodes.
type asking struct {
	endpoint, user string
	// rates are the requests a second that each node is asked, over time.
	rates func(node int, at time.Duration) float64
	last  time.Duration
	// workers of each node ask one after the other, so that one that waits holds nobody else up. 0: 8.
	workers int
	// random draws the gaps between requests. Else nodes are asked in step, and the one whose turn is always last finds
	// little of what comes back to a bucket.
	random bool
}

// even asks all nodes alike.
func even(rate float64) func(int, time.Duration) float64 {
	return func(int, time.Duration) float64 { return rate }
}

// asked is what came of a load.
type asked struct {
	admitted []admission
	denied   int
	failed   []error
	slowest  time.Duration
	byNode   []int // admitted
}

// run asks the nodes until the load ends. Times are since began.
func (a asking) run(t *testing.T, began time.Time, nodes ...*node) asked {
	t.Helper()
	if a.workers == 0 {
		a.workers = 8
	}
	var mu sync.Mutex
	all := asked{byNode: make([]int, len(nodes))}
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), a.last+patience)
	defer cancel()
	for i, n := range nodes {
		for w := range a.workers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				a.work(ctx, began, i, w, n, func(at admission, ok bool, err error) {
					mu.Lock()
					defer mu.Unlock()
					all.slowest = max(all.slowest, at.answered-at.asked)
					switch {
					case err != nil:
						if len(all.failed) < 100 {
							all.failed = append(all.failed, fmt.Errorf("%s: %w", n.name, err))
						}
					case ok:
						all.admitted = append(all.admitted, at)
						all.byNode[i]++
					default:
						all.denied++
					}
				})
			}()
		}
	}
	wg.Wait()
	return all
}

// work is one worker's part: its requests are due at even distances, and those that are late are left out.
func (a asking) work(ctx context.Context, began time.Time, i, worker int, n *node, done func(admission, bool, error)) {
	started := time.Since(began)
	next := started + time.Duration(worker)*time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Since(began)
		if now-started >= a.last {
			return
		}
		if wait := next - now; wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			continue
		}
		rate := a.rates(i, now-started) / float64(a.workers)
		if rate <= 0 {
			next = now + 10*time.Millisecond
			continue
		}
		gap := time.Duration(float64(time.Second) / rate)
		if a.random {
			gap = time.Duration(float64(gap) * rand.ExpFloat64())
		}
		if next += gap; next < now-gap {
			next = now
		}
		asked := time.Since(began)
		ok, err := n.check(a.endpoint, a.user)
		done(admission{asked, time.Since(began)}, ok, err)
	}
}

// total is how many were decided.
func (a *asked) total() int { return len(a.admitted) + a.denied }

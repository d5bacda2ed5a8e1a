package main

import (
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"time"
)

// measureInProcess lets contenders take turns, and returns checks per second and core, by contender and round.
func measureInProcess(names []string, k *keys, o options) (map[string][]float64, error) {
	var all []*contender
	for _, name := range names {
		c, err := newContender(name, k)
		if err != nil {
			return nil, err
		}
		if err := c.fill(len(k.names)); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	rates := map[string][]float64{}
	for round := range o.rounds {
		for i := range all {
			c := all[(i+round)%len(all)]
			runtime.GC()
			n, took, err := c.hammer(len(k.names), o.each)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			rates[c.name] = append(rates[c.name], float64(n)/took.Seconds()/float64(runtime.GOMAXPROCS(0)))
		}
	}
	return rates, nil
}

// fill lets a contender meet every key once.
func (c *contender) fill(keys int) error {
	w := newWorker(0)
	for i := range keys {
		if _, err := c.check(w, i); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// batch is how many checks are made between two looks at the time.
const batch = 256

// hammer asks on every core for a while, for keys in an order that no prefetcher knows.
func (c *contender) hammer(keys int, d time.Duration) (checks uint64, took time.Duration, err error) {
	workers := runtime.GOMAXPROCS(0)
	counts, errs := make([]uint64, workers), make([]error, workers)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			self := newWorker(w)
			for errs[w] == nil && time.Since(start) < d {
				for range batch {
					if _, errs[w] = c.check(self, self.below(keys)); errs[w] != nil {
						return
					}
				}
				counts[w] += batch
			}
		})
	}
	wg.Wait()
	took = time.Since(start)
	for w := range workers {
		checks += counts[w]
		if errs[w] != nil {
			err = errs[w]
		}
	}
	return checks, took, err
}

// random is xorshift64*: cheap, so that what is measured is not it.
type random uint64

func newRandom(seed int) *random {
	r := random(seed+1) * 0x9e3779b97f4a7c15
	return &r
}

func (r *random) below(n int) int {
	x := uint64(*r)
	x ^= x >> 12
	x ^= x << 25
	x ^= x >> 27
	*r = random(x)
	hi, _ := bits.Mul64(x*0x2545f4914f6cdd1d, uint64(n))
	return int(hi)
}

// latencies are how long single checks take, of several workers at once.
type latencies struct {
	P50, P99, P999, Max time.Duration
	Checks              uint64
	Took                time.Duration
}

// rate is checks per second.
func (l *latencies) rate() float64 { return float64(l.Checks) / l.Took.Seconds() }

// timeChecks times each check of several workers, which make one after the other, or one in every pace. The clock's own cost is in
// the figures.
func timeChecks(c *contender, keys, workers int, pace, d time.Duration) (latencies, error) {
	all, errs := make([]histogram, workers), make([]error, workers)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			self, h := newWorker(w), &all[w]
			due := time.Duration(0)
			for before := time.Since(start); before < d; {
				if before < due {
					time.Sleep(due - before) // as a server waits for requests: several come at once
					before = time.Since(start)
					continue
				}
				due += pace
				if _, errs[w] = c.check(self, self.below(keys)); errs[w] != nil {
					return
				}
				after := time.Since(start)
				h.add(after - before)
				before = after
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return latencies{}, err
		}
	}
	for _, h := range all[1:] {
		all[0].join(&h)
	}
	h := &all[0]
	return latencies{h.quantile(0.5), h.quantile(0.99), h.quantile(0.999), h.max, h.count, took}, nil
}

// histogram has 16 steps for each power of two: 6 % wide at most.
type histogram struct {
	steps [64 * 16]uint64
	count uint64
	max   time.Duration
}

func (h *histogram) add(d time.Duration) {
	h.steps[step(d)]++
	h.count++
	h.max = max(h.max, d)
}

func step(d time.Duration) int {
	n := uint64(max(d, 1))
	power := bits.Len64(n) - 1
	if power < 4 {
		return int(n)
	}
	return power*16 + int(n>>(power-4))&15
}

// upper is the largest duration of a step.
func upper(step int) time.Duration {
	power := step / 16
	if power < 4 {
		return time.Duration(step)
	}
	return time.Duration((uint64(step%16)+17)<<(power-4)) - 1
}

func (h *histogram) join(other *histogram) {
	for i, n := range other.steps {
		h.steps[i] += n
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

func (h *histogram) quantile(q float64) time.Duration {
	rest := uint64(q * float64(h.count))
	for i, n := range h.steps {
		if n > rest {
			return min(upper(i), h.max)
		}
		rest -= n
	}
	return h.max
}

// bytesPerKey is what a contender's memory grows by for each of many keys, itself included.
func bytesPerKey(name string, k *keys) (float64, error) {
	before := heap()
	c, err := newContender(name, k)
	if err != nil {
		return 0, err
	}
	if err := c.fill(len(k.names)); err != nil {
		return 0, err
	}
	after := heap()
	runtime.KeepAlive(c)
	return float64(int64(after-before)) / float64(len(k.names)), nil
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one's finalisers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// allocations is how many times a check asks for memory.
func allocations(c *contender, keys int) float64 {
	const checks = 100_000
	var before, after runtime.MemStats
	w := newWorker(99)
	runtime.ReadMemStats(&before)
	for range checks {
		_, _ = c.check(w, w.below(keys)) // an error shows in the other measurements
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / checks
}

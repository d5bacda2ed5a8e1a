package topk

import (
	"cmp"
	"slices"
	"time"
)

// Sketch keeps the heaviest keys of a stream, with a value of the caller's beside each. It is not safe
// for concurrent use.
type Sketch[K comparable, V any] struct {
	decay    decay
	total    float64         // of the stream, in units of the landmark, as every count
	counters []counter[K, V] // never longer than its capacity: pointers into it stay valid
	heap     []int32         // indices of counters, the lightest first
	index    map[K]int32     // of counters
}

// counter is one of the k.
type counter[K comparable, V any] struct {
	key    K
	weight float64
	excess float64 // of weight, what it took over
	place  int     // in the heap
	value  V
}

func (c *counter[K, V]) entry(growth float64) Entry[K, V] {
	return Entry[K, V]{c.key, c.weight / growth, c.excess / growth, &c.value}
}

// Entry is a key that is kept. Count and Error are decayed to the instant that was asked for.
type Entry[K comparable, V any] struct {
	Key   K
	Count float64 // never less than the key's true weight
	Error float64 // Count is larger than the true weight by this at most
	Value *V      // valid until the next call of Add
}

// New makes a sketch of size keys, at least one, and allocates all that it will ever use. With a
// half-life of 0 nothing decays.
func New[K comparable, V any](size int, halfLife time.Duration) *Sketch[K, V] {
	size = max(1, size)
	return &Sketch[K, V]{
		decay:    decay{halfLife: halfLife},
		counters: make([]counter[K, V], 0, size),
		heap:     make([]int32, 0, size),
		index:    make(map[K]int32, size),
	}
}

// Add charges key with weight at now, an instant of any clock that is always the same. Instants may be
// somewhat out of order. It returns the key's value, the zero value if the key was not kept until now;
// the pointer is valid until the next call. A weight of 0 is one of nothing, and claims no counter: nil
// if the key has none.
func (s *Sketch[K, V]) Add(now time.Duration, key K, weight uint64) *V {
	if weight == 0 {
		if i, kept := s.index[key]; kept {
			return &s.counters[i].value
		}
		return nil
	}
	if n := s.decay.due(now); n > 0 {
		s.rescale(n)
	}
	heavier := float64(weight) * s.decay.growth(now)
	s.total += heavier
	i, kept := s.index[key]
	if !kept {
		i = s.claim(key)
	}
	c := &s.counters[i]
	c.weight += heavier
	s.down(c.place)
	return &c.value
}

// Lookup finds a key that is kept; false if it is not.
func (s *Sketch[K, V]) Lookup(now time.Duration, key K) (Entry[K, V], bool) {
	i, kept := s.index[key]
	if !kept {
		return Entry[K, V]{}, false
	}
	return s.counters[i].entry(s.decay.growth(now)), true
}

// Top lists the n heaviest keys, the heaviest first.
func (s *Sketch[K, V]) Top(now time.Duration, n int) []Entry[K, V] {
	order := slices.Clone(s.heap)
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(s.counters[b].weight, s.counters[a].weight), cmp.Compare(a, b))
	})
	growth := s.decay.growth(now)
	top := make([]Entry[K, V], 0, min(max(0, n), len(order)))
	for _, i := range order[:cap(top)] {
		top = append(top, s.counters[i].entry(growth))
	}
	return top
}

// Total is the weight of the whole stream.
func (s *Sketch[K, V]) Total(now time.Duration) float64 { return s.total / s.decay.growth(now) }

// Min is the most that a key which is not kept can weigh.
func (s *Sketch[K, V]) Min(now time.Duration) float64 {
	if len(s.counters) < cap(s.counters) {
		return 0
	}
	return s.counters[s.heap[0]].weight / s.decay.growth(now)
}

// Len is how many keys are kept.
func (s *Sketch[K, V]) Len() int { return len(s.counters) }

// Size is how many keys can be kept.
func (s *Sketch[K, V]) Size() int { return cap(s.counters) }

// claim gives key a counter: one that is free, else the lightest with what is on it.
func (s *Sketch[K, V]) claim(key K) int32 {
	if n := len(s.counters); n < cap(s.counters) {
		i := int32(n)
		s.counters = append(s.counters, counter[K, V]{key: key})
		s.heap = append(s.heap, i)
		s.index[key] = i
		s.put(n, i)
		s.up(n)
		return i
	}
	i := s.heap[0]
	c := &s.counters[i]
	delete(s.index, c.key)
	*c = counter[K, V]{key: key, weight: c.weight, excess: c.weight}
	s.index[key] = i
	return i
}

// rescale moves the landmark by n half-lives. To divide by a power of two is exact, so that it changes no
// order; what gets too small for a float is nothing any more.
func (s *Sketch[K, V]) rescale(n int) {
	s.total = s.decay.scaled(s.total, n)
	for i := range s.counters {
		c := &s.counters[i]
		c.weight, c.excess = s.decay.scaled(c.weight, n), s.decay.scaled(c.excess, n)
	}
	s.decay.advance(n)
}

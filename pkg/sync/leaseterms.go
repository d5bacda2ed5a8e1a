package ratesync

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

const (
	// maxTerms bounds the limits of different figures: what is beyond asks for each decision.
	maxTerms = math.MaxUint16
	// termsKept are for policies: who asks with limits of his own choice can use up the others, as fast as those that nobody uses
	// any more are found.
	termsKept = 1 << 14
	// termsChunk is how many there is memory for at a time.
	termsChunk = 1 << 8
	// termsUnused is how many have to be without users before somebody looks for them, and a quarter of all.
	termsUnused = 1 << 10
)

// Terms are one policy's limit as leases count by it.
type Terms struct {
	limit    Limit
	bucket   bucket.Limit
	most     float64 // that all nodes may hold
	pause    bucket.Ticks
	longest  bucket.Ticks // that anything is denied
	index    uint16       // 0: no room for entries
	window   atomic.Pointer[windowSeen]
	users    atomic.Int32 // limits and leases on their way that need them; under termsList.mu it only falls
	splits   bool         // leases of it are possible
	windowed bool
}

// Limit is what they are of.
func (t *Terms) Limit() *Limit { return &t.limit }

// termsList are all of them, by limit and by index, from 1. Indexes are used again.
type termsList struct {
	mu     sync.Mutex
	all    map[Limit]*Terms
	free   []uint16
	last   int // index that was given
	unused atomic.Int64
	chunks [(maxTerms + 1) / termsChunk]atomic.Pointer[[termsChunk]atomic.Pointer[Terms]]
}

// at are the terms of an index, or nil.
func (l *termsList) at(index uint16) *Terms {
	chunk := l.chunks[index/termsChunk].Load()
	if chunk == nil {
		return nil
	}
	return chunk[index%termsChunk].Load()
}

// add gives terms an index, if there is one.
func (l *termsList) add(t *Terms, most int) {
	switch n := len(l.free); {
	case len(l.all) >= most:
		return
	case n > 0:
		t.index, l.free = l.free[n-1], l.free[:n-1]
	default:
		l.last++
		t.index = uint16(l.last)
	}
	chunk := &l.chunks[t.index/termsChunk]
	if chunk.Load() == nil {
		chunk.Store(new([termsChunk]atomic.Pointer[Terms]))
	}
	chunk.Load()[t.index%termsChunk].Store(t)
	l.all[t.limit] = t
}

// leave ends one use.
func (l *termsList) leave(t *Terms) {
	if t.users.Add(-1) == 0 {
		l.unused.Add(1)
	}
}

// Terms makes those of a policy's limit, or finds them. They are kept for good.
func (l *Leases) Terms(limit Limit) (*Terms, error) { return l.use(limit, maxTerms) }

// useFor finds or makes terms for as long as somebody has the user of them; own says that whoever asks chose the limit.
func useFor[T any](l *Leases, limit Limit, own bool, make func(*Terms) *T) (*T, error) {
	most := maxTerms
	if own {
		most -= termsKept
	}
	t, err := l.use(limit, most)
	if err != nil {
		return nil, err
	}
	user := make(t)
	runtime.AddCleanup(user, l.terms.leave, t)
	return user, nil
}

func (l *Leases) use(limit Limit, most int) (*Terms, error) {
	l.terms.mu.Lock()
	defer l.terms.mu.Unlock()
	if t := l.terms.all[limit]; t != nil {
		t.users.Add(1)
		return t, nil
	}
	t, err := l.newTerms(limit)
	if err != nil {
		return nil, err
	}
	t.users.Add(1)
	if n := l.terms.unused.Load(); n >= max(termsUnused, int64(len(l.terms.all)/4)) {
		l.terms.unused.Store(0) // those that stay are found the next time
		l.forgetTerms()
	}
	l.terms.add(t, most)
	return t, nil
}

// forgetTerms makes room: of terms that nobody uses all entries go, unless one owes the store something. What they held is lost,
// and the others admit so much less.
func (l *Leases) forgetTerms() {
	unused := map[uint16]bool{}
	for _, t := range l.terms.all {
		if t.users.Load() == 0 {
			unused[t.index] = true
		}
	}
	for i := range l.table.entries {
		e := &l.table.entries[i]
		s := e.load()
		if !unused[s.terms()] {
			continue
		}
		if e.debt.Load() != 0 || s&flagFlight != 0 || !e.swap(s, s.claimed()) {
			delete(unused, s.terms()) // the next time
			continue
		}
		l.dropped.Add(s.credit())
	}
	for index := range unused {
		t := l.terms.at(index)
		delete(l.terms.all, t.limit)
		l.terms.chunks[index/termsChunk].Load()[index%termsChunk].Store(nil)
		l.terms.free = append(l.terms.free, index)
	}
}

func (l *Leases) newTerms(limit Limit) (*Terms, error) {
	t := &Terms{limit: limit}
	window := limit.Window
	switch limit.Algorithm {
	case policy.AlgorithmFixedWindow, policy.AlgorithmSlidingWindow:
		t.windowed = true
		// Here a window's rate only says how debts decay.
		window = min(window, bucket.DepthMax.Duration()/2)
		fallthrough
	case policy.AlgorithmTokenBucket:
		t.splits = true
	case policy.AlgorithmConcurrency:
		window = min(window, policy.MaxLease)
	}
	var err error
	if t.bucket, err = bucket.NewLimit(limit.Limit, window, limit.Burst); err != nil {
		return nil, err
	}
	t.most = min(l.share*float64(limit.Burst), math.MaxUint32)
	t.pause = min(ticksOf(maxPause), t.bucket.Depth/8)
	t.longest = t.bucket.Depth
	if limit.Algorithm == policy.AlgorithmSlidingWindow {
		t.longest *= 2
	}
	return t, nil
}

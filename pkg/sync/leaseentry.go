package ratesync

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/limiter"
)

// ways is how many entries a bucket may be in. They are neighbours, so that the processor fetches the next while it looks
// at one.
const ways = 4

// leaseEntry is what this node knows of one bucket: a cache line, as a decision touches one.
//
// The state word says whose it is and what may be spent; whoever spends, swaps it. A claim by another bucket counts the
// state's generation on, so that a swap that began before it fails: words that were read after the state are of the bucket
// that the state is of, if the swap succeeds.
type leaseEntry struct {
	id    [2]atomic.Uint64
	state atomic.Uint64
	// full is when the store's bucket will be full, as far as it told. Of windows, which tell no such thing: when the lease
	// ends and, in its last 24 bits, how much was left.
	full atomic.Uint64
	// deny is until when more hits than its last 16 bits say are denied.
	deny atomic.Uint64
	// debt is what was spent while the store was away, as the TAT of a bucket of its own.
	debt   atomic.Uint64
	seq    atomic.Uint32 // of the last lease that was asked for
	at     atomic.Uint32 // when its answer came, in coarse units
	size   atomic.Uint32 // the credit then
	demand atomic.Uint32 // the credit that half a second takes
}

const _ = uint(64-unsafe.Sizeof(leaseEntry{})) + uint(unsafe.Sizeof(leaseEntry{})-64) // it is 64 bytes

// state is credit, terms, generation and flags: 32, 16, 8 and 8 bits. Terms are 0 in an entry that nobody has.
type state uint64

const (
	flagBusy    state = 1 << iota // being claimed: nothing in it means anything
	flagLow                       // somebody was told that it runs low
	flagFlight                    // a lease is on its way
	flagUnknown                   // the answer to the last lease was lost

	stateFlags      state = 1<<8 - 1
	stateGeneration state = stateFlags << 8
	creditShift           = 32
	termsShift            = 16
)

func (s state) credit() uint64 { return uint64(s >> creditShift) }
func (s state) terms() uint16  { return uint16(s >> termsShift) }

// owner is the state without credit and flags: whose it is, and since when.
func (s state) owner() state { return s & (1<<creditShift - 1) &^ stateFlags }

// claimed is the next generation of a state, of nobody yet.
func (s state) claimed() state { return (s + 1<<8) & stateGeneration }

func (s state) with(credit uint64) state {
	return s&(1<<creditShift-1) | state(min(credit, math.MaxUint32))<<creditShift
}

func (e *leaseEntry) load() state { return state(e.state.Load()) }
func (e *leaseEntry) swap(old, next state) bool {
	return e.state.CompareAndSwap(uint64(old), uint64(next))
}

// update swaps the state for what change makes of it, as long as the entry is its owner's.
func (e *leaseEntry) update(owner state, change func(state) state) bool {
	for {
		s := e.load()
		if s.owner() != owner || s&flagBusy != 0 {
			return false
		}
		if e.swap(s, change(s)) {
			return true
		}
	}
}

// coarse time is some 1.05 ms, and wraps after 52 days: it is only compared to learn a rate, or who is older.
const (
	coarseShift = 28
	coarseUnit  = time.Duration(1<<coarseShift) >> 8
)

func coarse(t bucket.Ticks) uint32 { return uint32(t >> coarseShift) }

// windowHits is the part of a window's word that says how much the store had left. The rest is when the lease ends: at most
// 66 us too early.
const windowHits = 1<<24 - 1

func packWindow(end bucket.Ticks, left uint64) uint64 {
	return uint64(end)&^windowHits | min(left, windowHits)
}

// windowLeft is how long a window goes on, and what was left in it: nothing known if it is over.
func windowLeft(packed uint64, now bucket.Ticks) (bucket.Ticks, uint64) {
	time := bucket.Debt(windowEnd(packed), now)
	if time == 0 {
		return 0, 0
	}
	return time, packed & windowHits
}

func windowEnd(packed uint64) bucket.Ticks { return bucket.Ticks(packed &^ windowHits) }

// denyHits is the part of a denial that says how many hits it does not concern.
const denyHits = 1<<16 - 1

// packDenial rounds up: who asks again then finds what they need.
func packDenial(until bucket.Ticks, left uint64) uint64 {
	return uint64(until+denyHits)&^denyHits | min(left, denyHits)
}

// leaseTable is a fixed number of entries.
type leaseTable struct {
	entries []leaseEntry
	mask    uint64
	// claims keeps two from claiming in one set. Deciding takes none of them.
	claims [64]sync.Mutex
}

func newLeaseTable(entries int) leaseTable {
	sets := 1
	for sets*ways < entries {
		sets *= 2
	}
	return leaseTable{entries: make([]leaseEntry, sets*ways), mask: uint64(sets - 1)}
}

func (t *leaseTable) set(hash uint64) []leaseEntry {
	first := (hash & t.mask) * ways
	return t.entries[first : first+ways : first+ways]
}

func words(id ID) (uint64, uint64) {
	return binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
}

// find is the entry of a bucket under these terms, and the state in which it was seen to be that; nil if there is none.
func (t *leaseTable) find(k *limiter.Key, terms uint16) (*leaseEntry, state) {
	if terms == 0 {
		return nil, 0 // entries that nobody has keep their last name
	}
	id0, id1 := words(k.ID)
	set := t.set(k.Hash)
	for i := range set {
		e := &set[i]
		s := e.load() // before the name: see leaseEntry
		if s.terms() == terms && e.id[0].Load() == id0 && e.id[1].Load() == id1 && s&flagBusy == 0 {
			return e, s
		}
	}
	return nil, 0
}

// lost is what an entry held when another bucket took it.
type lost struct {
	terms  uint16
	id     ID
	credit uint64
	debt   bool
}

// claim is find, and makes an entry where there is none: of the set, that which holds the least.
func (t *leaseTable) claim(k *limiter.Key, terms uint16, now bucket.Ticks) (*leaseEntry, state, lost) {
	mu := &t.claims[(k.Hash&t.mask)%uint64(len(t.claims))]
	mu.Lock()
	defer mu.Unlock()
	for {
		if e, s := t.find(k, terms); e != nil {
			return e, s, lost{}
		}
		e, s := t.victim(k, now)
		fresh := s.claimed()
		if !e.swap(s, fresh|flagBusy) {
			continue // somebody spent of it: it holds less now
		}
		was := lost{terms: s.terms(), id: e.name(), credit: s.credit(), debt: bucket.Debt(bucket.Ticks(e.debt.Load()), now) > 0}
		e.clear()
		id0, id1 := words(k.ID)
		e.id[0].Store(id0)
		e.id[1].Store(id1)
		s = fresh | state(terms)<<termsShift
		e.state.Store(uint64(s))
		return e, s, was
	}
}

func (e *leaseEntry) name() (id ID) {
	binary.LittleEndian.PutUint64(id[:8], e.id[0].Load())
	binary.LittleEndian.PutUint64(id[8:], e.id[1].Load())
	return id
}

func (e *leaseEntry) clear() {
	for _, w := range []*atomic.Uint64{&e.full, &e.deny, &e.debt} {
		w.Store(0)
	}
	for _, w := range []*atomic.Uint32{&e.seq, &e.at, &e.size, &e.demand} {
		w.Store(0)
	}
}

// victim is the entry of a set that is missed the least: one that nobody has, then one that holds nothing, a denial,
// credit, a debt; and never a lease on its way, if there is another. Of those that are alike, that with the least debt, or
// the one that asked least recently.
func (t *leaseTable) victim(k *limiter.Key, now bucket.Ticks) (*leaseEntry, state) {
	var least *leaseEntry
	var leastState state
	var lowest worth
	set := t.set(k.Hash)
	for i := range set {
		e := &set[i]
		s := e.load()
		if w := e.worth(s, now); least == nil || w.less(lowest) {
			least, leastState, lowest = e, s, w
		}
	}
	return least, leastState
}

// worth is how much would be lost with an entry.
type worth struct {
	kind int
	debt bucket.Ticks
	age  uint32
}

func (w worth) less(than worth) bool {
	switch {
	case w.kind != than.kind:
		return w.kind < than.kind
	case w.debt != than.debt:
		return w.debt < than.debt
	}
	return w.age > than.age
}

func (e *leaseEntry) worth(s state, now bucket.Ticks) worth {
	w := worth{debt: bucket.Debt(bucket.Ticks(e.debt.Load()), now), age: coarse(now) - e.at.Load()}
	switch {
	case s.terms() == 0: // nothing
	case s&flagFlight != 0:
		w.kind = 5
	case w.debt > 0:
		w.kind = 4
	case s.credit() > 0 || s&flagUnknown != 0:
		w.kind = 3
	case bucket.Debt(bucket.Ticks(e.deny.Load()), now) > 0:
		w.kind = 2
	default:
		w.kind = 1
	}
	return w
}

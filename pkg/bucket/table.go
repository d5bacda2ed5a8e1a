package bucket

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"sync/atomic"
	"unsafe"
)

const (
	// SetWays is the number of entries in a set.
	SetWays = 4
	// SetSize is the size of a set in bytes: one cache line.
	SetSize = SetWays * entrySize

	entrySize = 16
	maxTries  = 8
)

// worthNothing ranks an entry that nobody ever claimed; see table_worth in table.h.
const worthNothing = math.MinInt64

// entry is the layout of struct bucket_entry. The first word is swapped as one.
type entry struct {
	tag atomic.Uint64 // fingerprint and used, in the machine's byte order
	tat atomic.Uint64
}

// tag is the first word of an entry, taken apart.
type tag struct{ fingerprint, used uint32 }

func (e *entry) loadTag() tag { return splitTag(e.tag.Load()) }

func splitTag(word uint64) tag { return *(*tag)(unsafe.Pointer(&word)) }

func (t tag) word() uint64 {
	var word uint64
	*(*tag)(unsafe.Pointer(&word)) = t
	return word
}

// addUsed is atomic on its half of the word alone, as in the kernel.
func (e *entry) addUsed(tokens uint32) {
	used := (*uint32)(unsafe.Add(unsafe.Pointer(&e.tag), unsafe.Offsetof(tag{}.used)))
	atomic.AddUint32(used, tokens)
}

// Table is a bucket table over memory that somebody else may change at the same time: the heap, or
// the mapping of the kernel's array. All operations are atomic on it and cost no system call. The
// races between them, and what each costs, are listed in bpf/lib/table.h.
type Table struct {
	sets []([SetWays]entry)
	mem  []byte // keeps a heap table alive
}

// ErrMemory is wrapped by the errors of [NewTable].
var ErrMemory = errors.New("memory does not fit a bucket table")

// NewTable lays a table over mem, whose length must be a power of two of [SetSize] bytes or more and
// which must start at a multiple of 8. Zeroed memory is an empty table.
func NewTable(mem []byte) (*Table, error) {
	n := len(mem)
	if n < SetSize || n&(n-1) != 0 || n/SetSize > 1<<32 {
		return nil, fmt.Errorf("%w: %d bytes, want a power of two from %d on", ErrMemory, n, SetSize)
	}
	start := unsafe.Pointer(unsafe.SliceData(mem))
	if uintptr(start)%8 != 0 {
		return nil, fmt.Errorf("%w: it starts at %p, want a multiple of 8", ErrMemory, start)
	}
	return &Table{sets: unsafe.Slice((*[SetWays]entry)(start), n/SetSize), mem: mem}, nil
}

// Sets is the number of sets, a power of two.
func (t *Table) Sets() int { return len(t.sets) }

func (t *Table) set(hash uint64) *[SetWays]entry {
	return &t.sets[uint32(hash)&uint32(len(t.sets)-1)]
}

// Fingerprint is the part of a hash that an entry keeps: never 0, which marks an unclaimed one.
func Fingerprint(hash uint64) uint32 {
	if high := uint32(hash >> 32); high != 0 {
		return high
	}
	return 1
}

func find(set *[SetWays]entry, fingerprint uint32) *entry {
	for i := range set {
		if set[i].loadTag().fingerprint == fingerprint {
			return &set[i]
		}
	}
	return nil
}

func worth(e *entry, now Ticks) int64 {
	ahead := int64(e.tat.Load() - uint64(now))
	switch {
	case e.loadTag().fingerprint == 0:
		return worthNothing
	case ahead > int64(DepthMax+skewMax):
		return worthNothing + 1
	}
	return ahead
}

// Taken tells what [Table.Take] found and did; the flags are those of table.h.
type Taken uint32

const (
	Admitted  Taken = 1 << iota // the tokens may pass
	Claimed                     // the source had no entry and has one now
	Pressure                    // all the ways of its set owe tokens
	Contended                   // denied because other CPUs won every swap
)

// claim gives the source an entry; nil if there is none to be had, because a swap was lost or,
// with Pressure, because a debt is in the way.
func claim(set *[SetWays]entry, fingerprint uint32, now Ticks, evictDebt bool) (*entry, Taken) {
	victim, least := &set[0], worth(&set[0], now)
	for i := 1; i < SetWays; i++ {
		if w := worth(&set[i], now); w < least {
			victim, least = &set[i], w
		}
	}
	var flags Taken
	if least > 0 {
		flags = Pressure
		if !evictDebt {
			return nil, flags
		}
	}
	old, tat := victim.tag.Load(), victim.tat.Load()
	if worth(victim, now) != least || !victim.tag.CompareAndSwap(old, tag{fingerprint: fingerprint}.word()) {
		return nil, 0
	}
	if least > 0 || least == worthNothing {
		victim.tat.CompareAndSwap(tat, uint64(now)) // not if somebody has charged it since: see table.h
	}
	for i := range set {
		if e := &set[i]; e != victim && e.loadTag().fingerprint == fingerprint {
			victim.tag.CompareAndSwap(tag{fingerprint: fingerprint}.word(), 0)
			return nil, 0 // somebody else brought the same source: look again
		}
	}
	return victim, flags | Claimed
}

// Entry is a copy of one entry of a table.
type Entry struct {
	Set         int
	Way         int
	Fingerprint uint32
	Used        uint32 // tokens admitted since the claim, modulo 2^32
	TAT         Ticks
}

// Lookup copies the entry of the bucket that hash names; false if there is none, which means that
// the bucket is full.
func (t *Table) Lookup(hash uint64) (Entry, bool) {
	set, fingerprint := t.set(hash), Fingerprint(hash)
	for way := range set {
		if got := set[way].loadTag(); got.fingerprint == fingerprint {
			index := int(uint32(hash) & uint32(len(t.sets)-1))
			return Entry{index, way, fingerprint, got.used, Ticks(set[way].tat.Load())}, true
		}
	}
	return Entry{}, false
}

// Reset fills the bucket that hash names; false if it has no entry, and so was full already. The
// entry stays, with what it used.
func (t *Table) Reset(hash uint64, now Ticks) bool {
	e := find(t.set(hash), Fingerprint(hash))
	if e == nil {
		return false
	}
	e.tat.Store(uint64(now))
	return true
}

// Entries yields a copy of every claimed entry, set by set. The table may change meanwhile: each
// entry is consistent in itself, the whole is not a snapshot.
func (t *Table) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for i := range t.sets {
			for way := range t.sets[i] {
				e := &t.sets[i][way]
				got := e.loadTag()
				if got.fingerprint == 0 {
					continue
				}
				if !yield(Entry{i, way, got.fingerprint, got.used, Ticks(e.tat.Load())}) {
					return
				}
			}
		}
	}
}

// Occupancy tells how full a table is.
type Occupancy struct {
	Capacity int // entries that there are
	Claimed  int // entries that a source was given
	Owing    int // of these, the ones whose bucket is not full: only they are missed when evicted
}

// Occupancy counts the table's entries. It reads all of them, so not for every packet or request.
func (t *Table) Occupancy(now Ticks) Occupancy {
	o := Occupancy{Capacity: len(t.sets) * SetWays}
	for e := range t.Entries() {
		o.Claimed++
		if Debt(e.TAT, now) > 0 {
			o.Owing++
		}
	}
	return o
}

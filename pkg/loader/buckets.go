package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weir-limiter/weir/pkg/bucket"
)

// Buckets is the table that the kernel charges, mapped into this process.
type Buckets struct {
	*bucket.Table
	memory []byte
}

// OpenBuckets maps the table. What is done to it is done at once, for packets too.
func (d *StateDir) OpenBuckets() (*Buckets, error) {
	m, err := ebpf.LoadPinnedMap(d.pin("table"), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned table: %w", explain(err))
	}
	defer m.Close()
	return mapBuckets(m)
}

// mapBuckets maps a table's memory, which outlives m's descriptor.
func mapBuckets(m *ebpf.Map) (*Buckets, error) {
	size := int(m.MaxEntries()) * int(m.ValueSize())
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the table of %d bytes: %w", size, err)
	}
	table, err := bucket.NewTable(memory)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrIncompatible, err), unix.Munmap(memory))
	}
	return &Buckets{Table: table, memory: memory}, nil
}

// Close unmaps the table, which must not be used any more.
func (b *Buckets) Close() error {
	b.Table = nil
	return unix.Munmap(b.memory)
}

// BucketState is one source's bucket at one instant.
type BucketState struct {
	Found  bool          // whether the source has an entry; without one its bucket is full
	Tokens uint64        // in the bucket, rounded down
	Next   time.Duration // until a token can be taken; 0 if one can be at once
	Full   time.Duration // until the bucket is full again
	Used   uint32        // tokens admitted since the entry was claimed, modulo 2^32
}

// Bucket reads the bucket that source has under a policy.
func (b *Buckets) Bucket(p *LoadedPolicy, source netip.Addr, now bucket.Ticks) BucketState {
	e, found := b.Lookup(p.key.Hash(p.mask, source))
	if !found {
		return BucketState{Tokens: p.Burst}
	}
	return BucketState{
		Found:  true,
		Tokens: p.limit.Tokens(e.TAT, now),
		Next:   p.limit.Wait(e.TAT, now, 1).Duration(),
		Full:   min(bucket.Debt(e.TAT, now), p.limit.Depth).Duration(),
		Used:   e.Used,
	}
}

// ResetBucket fills the bucket; false if the source has no entry, and so had a full one.
func (b *Buckets) ResetBucket(p *LoadedPolicy, source netip.Addr, now bucket.Ticks) bool {
	return b.Reset(p.key.Hash(p.mask, source), now)
}

// Now is the instant by the clock that the programs read.
func Now() bucket.Ticks { return bucket.AtNanoseconds(uint64(sinceBoot())) }

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		// It takes a wrong clock id or a wrong pointer.
		panic(fmt.Sprintf("clock_gettime(CLOCK_MONOTONIC): %v", err))
	}
	return time.Duration(ts.Nano())
}

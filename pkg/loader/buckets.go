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
	"github.com/weir-limiter/weir/pkg/policy"
)

// Buckets is the table that the kernel charges, mapped into this process, and what the CPUs know of it.
type Buckets struct {
	*bucket.Table
	memory []byte
	slots  *ebpf.Map
}

// OpenBuckets maps the table. What is done to it is done at once, for packets too.
func (d *StateDir) OpenBuckets() (*Buckets, error) {
	m, err := ebpf.LoadPinnedMap(d.pin(tablePin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned table: %w", explain(err))
	}
	defer m.Close()
	slots, err := ebpf.LoadPinnedMap(d.pin("slots"), nil)
	if err != nil {
		return nil, fmt.Errorf("open the pinned slots: %w (run: weir detach --all)", explain(err))
	}
	return mapBuckets(m, slots)
}

// mapBuckets maps a table's memory, which outlives its descriptor. The slots' is taken over.
func mapBuckets(table, slots *ebpf.Map) (*Buckets, error) {
	size := int(table.MaxEntries()) * int(table.ValueSize())
	memory, err := unix.Mmap(table.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the table of %d bytes: %w", size, err), slots.Close())
	}
	mapped, err := bucket.NewTable(memory)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrIncompatible, err), unix.Munmap(memory), slots.Close())
	}
	return &Buckets{Table: mapped, memory: memory, slots: slots}, nil
}

// Close unmaps the table, which must not be used any more.
func (b *Buckets) Close() error {
	b.Table = nil
	return errors.Join(unix.Munmap(b.memory), b.slots.Close())
}

// BucketState is one source's bucket at one instant.
type BucketState struct {
	Found  bool          // whether the source has an entry; without one its bucket is full
	Tokens uint64        // in the bucket, rounded down
	Leased uint64        // taken from the bucket by CPUs that have not spent them yet, rounded down
	Next   time.Duration // until a token can be taken; 0 if one can be at once
	Full   time.Duration // until the bucket is full again
	Used   uint32        // tokens taken since the entry was claimed, the leased ones too, modulo 2^32
}

// Key names a bucket of a policy. Which of its fields matter is the policy's scope: per_ip asks for the
// source, per_endpoint for protocol and port, global for none.
type Key struct {
	Source   netip.Addr
	Protocol uint8
	Port     uint16
}

// Bucket reads a bucket of a policy.
func (b *Buckets) Bucket(p *LoadedPolicy, key Key, now bucket.Ticks) (BucketState, error) {
	hash := p.hash(key)
	e, found := b.Lookup(hash)
	if !found {
		return BucketState{Tokens: p.Burst}, nil
	}
	s := BucketState{
		Found:  true,
		Tokens: p.rate.Limit.Tokens(e.TAT, now),
		Next:   p.rate.Limit.Wait(e.TAT, now, 1).Duration(),
		Full:   min(bucket.Debt(e.TAT, now), p.rate.Limit.Depth).Duration(),
		Used:   e.Used,
	}
	slots, err := b.readSlots(hash)
	for _, slot := range slots {
		if slot.Hash == hash && slot.RateId == p.rate.ID {
			s.Leased += uint64(slot.Credit)
		}
	}
	return s, err
}

// ResetBucket fills a bucket, and makes every CPU forget it; false if it has no entry, and so was full.
func (b *Buckets) ResetBucket(p *LoadedPolicy, key Key, now bucket.Ticks) (bool, error) {
	hash := p.hash(key)
	found := b.Reset(hash, now)
	slots, err := b.readSlots(hash)
	if err != nil {
		return found, err
	}
	known := false
	for i := range slots {
		if slots[i].Hash == hash {
			slots[i], known = xdpSlot{}, true
		}
	}
	if !known {
		return found, nil
	}
	// A CPU that gave its slot to another bucket a moment ago gets back what it had: one lease at most.
	if err := b.slots.Put(bucket.SlotIndex(hash), slots); err != nil {
		return found, fmt.Errorf("clear the slots of a bucket: %w", explain(err))
	}
	return found, nil
}

// readSlots has each CPU's slot for a bucket, or for another one in its place.
func (b *Buckets) readSlots(hash uint64) (slots []xdpSlot, err error) {
	if err := b.slots.Lookup(bucket.SlotIndex(hash), &slots); err != nil {
		return nil, fmt.Errorf("read the slots of a bucket: %w", explain(err))
	}
	return slots, nil
}

func (p *LoadedPolicy) hash(k Key) uint64 {
	switch p.Scope {
	case policy.ScopePerEndpoint:
		return p.key.HashEndpoint(k.Protocol, k.Port)
	case policy.ScopeGlobal:
		return p.key.HashGlobal()
	default:
		return p.key.Hash(p.mask, k.Source)
	}
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

package loader

import (
	"bytes"
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

// Buckets is the table that the kernel charges and the slots before it, mapped into this process.
type Buckets struct {
	*bucket.Table
	table, tags, slots []byte // the mappings
	cpus               *bucket.CPUSlots
}

// OpenBuckets maps the table. What is done to it is done at once, for packets too.
func (d *StateDir) OpenBuckets() (*Buckets, error) {
	table, err := ebpf.LoadPinnedMap(d.pin(tablePin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.name, ErrNothingAttached)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pinned table: %w", explain(err))
	}
	defer table.Close()
	own := map[string]*ebpf.Map{}
	for _, pin := range []string{"tags", "slots"} {
		m, err := ebpf.LoadPinnedMap(d.pin(pin), nil)
		if err != nil {
			return nil, fmt.Errorf("open the pinned %s: %w (run: weir detach --all)", pin, explain(err))
		}
		defer m.Close()
		own[pin] = m
	}
	return mapBuckets(table, own["tags"], own["slots"])
}

// mapBuckets maps the memory of the table and of what goes with it, which outlives their descriptors.
func mapBuckets(table, tags, slots *ebpf.Map) (_ *Buckets, err error) {
	b := &Buckets{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if b.table, err = mapMemory(table); err != nil {
		return nil, err
	}
	if b.tags, err = mapMemory(tags); err != nil {
		return nil, err
	}
	if b.slots, err = mapMemory(slots); err != nil {
		return nil, err
	}
	if b.Table, err = bucket.NewTable(b.table); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncompatible, err)
	}
	if b.cpus, err = bucket.NewCPUSlots(b.slots); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIncompatible, err)
	}
	return b, nil
}

func mapMemory(m *ebpf.Map) ([]byte, error) {
	size := int(m.MaxEntries()) * int(m.ValueSize())
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return memory, nil
}

// Close unmaps the table, which must not be used any more.
func (b *Buckets) Close() error {
	b.Table, b.cpus = nil, nil
	var errs []error
	for _, memory := range [][]byte{b.table, b.tags, b.slots} {
		if memory != nil {
			errs = append(errs, unix.Munmap(memory))
		}
	}
	return errors.Join(errs...)
}

// Tagged counts the tags, of which there is one to an entry that is claimed, but for one in 256 whose tag is 0.
func (b *Buckets) Tagged() int { return len(b.tags) - bytes.Count(b.tags, []byte{0}) }

// Clear forgets every bucket and every source. It is not atomic: of what packets do meanwhile some is
// forgotten, and some stays.
func (b *Buckets) Clear() {
	clear(b.slots)
	clear(b.tags)
	clear(b.table)
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
func (b *Buckets) Bucket(p *LoadedPolicy, key Key, now bucket.Ticks) BucketState {
	hash := p.hash(key)
	e, found := b.Lookup(hash)
	if !found {
		return BucketState{Tokens: p.Burst}
	}
	s := BucketState{
		Found:  true,
		Tokens: p.rate.Limit.Tokens(e.TAT, now),
		Next:   p.rate.Limit.Wait(e.TAT, now, 1).Duration(),
		Full:   min(bucket.Debt(e.TAT, now), p.rate.Limit.Depth).Duration(),
		Used:   e.Used,
	}
	s.Leased = b.cpus.Leased(hash, &p.rate)
	return s
}

// ResetBucket fills a bucket, and makes every CPU forget it; false if it has no entry, and so was full.
func (b *Buckets) ResetBucket(p *LoadedPolicy, key Key, now bucket.Ticks) bool {
	hash := p.hash(key)
	found := b.Reset(hash, now)
	b.cpus.Forget(hash)
	return found
}

// Use is how many tokens a bucket of a policy has given since its entry was claimed, modulo 2^32 and with those that
// CPUs have leased, and its TAT: see [bucket.UsedSince] and [bucket.Debt]. Not found: it has no entry, and is full.
func (b *Buckets) Use(p *LoadedPolicy, key Key) (used uint32, tat bucket.Ticks, found bool) {
	e, found := b.Lookup(p.hash(key))
	return e.Used, e.TAT, found
}

// Adjust makes a bucket of a policy owe delta ticks more, or less: see [bucket.Limit.Adjust]. Packets meet it at
// once, but for those that a CPU's lease is spent on: burst/16 tokens at most on all of them. What a CPU knows
// of a denial it forgets if the debt has become less.
func (b *Buckets) Adjust(p *LoadedPolicy, key Key, now bucket.Ticks, delta int64) (applied int64, found bool) {
	hash := p.hash(key)
	applied, found = b.Table.Adjust(hash, &p.rate.Limit, now, delta)
	if applied < 0 {
		b.cpus.Ask(hash)
	}
	return applied, found
}

// BucketLimit is what the kernel computes with: the arithmetic of the policy's buckets.
func (p *LoadedPolicy) BucketLimit() bucket.Limit { return p.rate.Limit }

// Canonical is the key that all sources have in common which share a bucket of the policy.
func (p *LoadedPolicy) Canonical(k Key) Key {
	switch p.Scope {
	case policy.ScopePerEndpoint:
		return Key{Protocol: k.Protocol, Port: k.Port}
	case policy.ScopeGlobal:
		return Key{}
	}
	source := k.Source.Unmap()
	length := p.IPv6Prefix
	if source.Is4() {
		length = p.IPv4Prefix
	}
	prefix, err := source.Prefix(int(length))
	if err != nil {
		return Key{Source: source.WithZone("")} // a prefix as long as the address, or no address
	}
	return Key{Source: prefix.Addr()}
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

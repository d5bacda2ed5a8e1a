package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weir-limiter/weir/pkg/policy"
)

// ErrComparison says that a file is not the object to compare with.
var ErrComparison = errors.New("not the object to compare with")

// The names in bpf/bench/lru.bpf.c.
const (
	lruProgram     = "lru"
	lruBuckets     = "buckets"
	lruPolicyStats = "policy_stats"
	lruTokenTime   = "token_time"
	lruDepth       = "depth"
	lruMultiBuffer = "multi_buffer"
)

// lruCounters is struct policy_counters of types.h; its size is checked, as no generator keeps it.
type lruCounters struct {
	Packets, Bytes   [3]uint64
	Strangers, Paced uint64 // weir's alone
}

// lru is the conventional program.
type lru struct{ collection *ebpf.Collection }

// openComparison reads the object from a file, and makes sure that it is the one.
func openComparison(path string) (*ebpf.CollectionSpec, error) {
	spec, err := ebpf.LoadCollectionSpec(path)
	if err != nil {
		return nil, fmt.Errorf("read the object to compare with: %w (it is bpf/bench/lru.bpf.o of weir's source)", err)
	}
	stats := spec.Maps[lruPolicyStats]
	ok := spec.Programs[lruProgram] != nil && spec.Maps[lruBuckets] != nil && stats != nil
	for _, name := range []string{lruTokenTime, lruDepth, lruMultiBuffer} {
		ok = ok && spec.Variables[name] != nil
	}
	if !ok || int(stats.ValueSize) != binary.Size(lruCounters{}) {
		return nil, fmt.Errorf("%s: %w (it is bpf/bench/lru.bpf.o of the same version's source)", path, ErrComparison)
	}
	return spec, nil
}

// newLRU loads it with the policy's limit, and room for as many sources as weir's table has. It knows whole nanoseconds only.
func newLRU(spec *ebpf.CollectionSpec, p policy.Policy, entries int) (*lru, error) {
	spec = spec.Copy()
	multiBuffer, err := adaptToKernel(spec)
	if err != nil {
		return nil, err
	}
	spec.Maps[lruBuckets].MaxEntries = uint32(entries)
	tokenTime := p.Window / time.Duration(p.Limit)
	for name, value := range map[string]any{
		lruTokenTime:   uint64(tokenTime),
		lruDepth:       uint64(tokenTime) * p.Burst,
		lruMultiBuffer: multiBuffer,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set constant %s: %w", name, err)
		}
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the program to compare with: %w (its map takes some 100 bytes for each of %d sources, and 16 more on every CPU)",
			err, entries)
	}
	return &lru{collection}, nil
}

func (l *lru) program() *ebpf.Program { return l.collection.Programs[lruProgram] }

func (l *lru) tally() (tally, error) {
	var cpus []lruCounters
	if err := l.collection.Maps[lruPolicyStats].Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("read the counters to compare with: %w", err)
	}
	t := tally{}
	for _, cpu := range cpus {
		t[policy.VerdictPass] += cpu.Packets[0]
		t[policy.VerdictDrop] += cpu.Packets[1]
	}
	return t, nil
}

// memory is what the kernel says that the buckets take, in bytes; 0 if it does not.
func (l *lru) memory() uint64 {
	info, err := l.collection.Maps[lruBuckets].Info()
	if err != nil {
		return 0
	}
	bytes, _ := info.Memlock()
	return bytes
}

// Close unloads the program.
func (l *lru) Close() error {
	l.collection.Close()
	return nil
}

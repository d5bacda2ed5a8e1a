package limiter

import (
	"crypto/rand"
	"fmt"
	"maps"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Options says how a [Limiter] is made. The zero value is usable.
type Options struct {
	// Entries is the size of the bucket table, 16 bytes each: a power of two from [MinEntries] on; 0 means
	// [DefaultEntries].
	Entries int
	// Algorithms are further algorithms, by the name that policies know them by. They may take the place
	// of those that there are.
	Algorithms map[policy.Algorithm]NewAlgorithm
	// Store keeps what nodes share of policies whose consistency is strict or leased; nil: there are no others.
	Store Store
	// OnStoreFailure is what holds while the store is away, of policies that do not say it, of rules and of limits that
	// come with queries; empty: [policy.StoreFailureLocal].
	OnStoreFailure policy.StoreFailure
	// Clock tells the time; nil: that of the machine.
	Clock func() Instant
}

const (
	// MinEntries is the size of the smallest table.
	MinEntries = 1 << 10
	// DefaultEntries make a table of 16 MiB. How many active keys it holds before it has to forget a
	// debt, TestTableForgetsNothing prints.
	DefaultEntries = 1 << 20
)

// Limiter decides over requests. Its methods may be called by many goroutines at once.
type Limiter struct {
	table      *bucket.Table
	hasher     hasher
	now        func() Instant
	algorithms map[policy.Algorithm]NewAlgorithm
	store      Store // nil: none
	onFailure  policy.StoreFailure
	made       time.Time
	sealKey    [32]byte // of lease tokens

	set     atomic.Pointer[ruleSet]
	totals  [backends]*totals // each allocated by itself, which aligns it
	invalid atomic.Uint64

	// Of limits that come with a query.
	own            *counters
	ownConsistency policy.Consistency
	ownSpace       space
	ownRules       ownRules

	mu           sync.Mutex // of changes of set, and of what follows
	ruleCounters map[string]*counters
}

// New makes a limiter without policies, which allows everything.
func New(o Options) (*Limiter, error) {
	if o.Entries == 0 {
		o.Entries = DefaultEntries
	}
	if o.Entries < MinEntries || bits.OnesCount(uint(o.Entries)) != 1 {
		return nil, fmt.Errorf("a table of %d entries (want a power of two from %d on)", o.Entries, MinEntries)
	}
	table, err := bucket.NewTable(tableMemory(o.Entries * bucket.SetSize / bucket.SetWays))
	if err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = newClock().now
	}
	l := &Limiter{
		table: table, hasher: newHasher(), now: o.Clock, algorithms: maps.Clone(o.Algorithms), made: time.Now(),
		store: o.Store, onFailure: o.OnStoreFailure, own: &counters{}, ruleCounters: map[string]*counters{},
	}
	if l.ownConsistency = policy.ConsistencyLocal; o.Store != nil {
		l.ownConsistency = policy.ConsistencyLeased
	}
	for i := range l.totals {
		l.totals[i] = &totals{}
	}
	_, _ = rand.Read(l.sealKey[:]) // never fails
	l.ownSpace = l.hasher.space("own", "", policy.DefaultIPv4Prefix, policy.DefaultIPv6Prefix)
	l.set.Store(newRuleSet(policy.Document{}))
	return l, nil
}

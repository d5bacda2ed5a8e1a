package limiter

import (
	"context"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Key names a bucket that nodes share, in this process and on all nodes.
type Key struct {
	// Hash is this process' own, and keyed: it places the bucket in tables.
	Hash uint64
	// ID is the same on every node, and tells nobody whose bucket it is: a SHA-256 digest, cut.
	ID [16]byte
}

// Answer is how much a [Shared] limit knows by itself.
type Answer uint8

const (
	// Decided says that the outcome holds.
	Decided Answer = iota
	// Ask says that the store has to be asked, by [Store.Ask].
	Ask
	// Away says that the store is not asked at present, or did not answer: the policy's on_store_failure decides.
	Away
)

// Shared is one policy's limit, whose count nodes share through a [Store]. Its methods are called for each request, by
// many goroutines at once, and must neither block nor allocate.
type Shared interface {
	// Take takes hits, 1 or more, if what this node holds suffices.
	Take(k Key, now Instant, hits uint64) (Outcome, Answer)
	// Peek says what Take would, and takes nothing.
	Peek(k Key, now Instant, hits uint64) (Outcome, Answer)
	// Refund gives back what Take or [Store.Ask] admitted; it does not wait for the store.
	Refund(k Key, now Instant, o Outcome, hits uint64)
	// Spent notes hits that on_store_failure admitted while the store was away, so that the other nodes hear of them when
	// it is back.
	Spent(k Key, now Instant, hits uint64)
	// Releasing tells whether what it grants lasts until it is given back by Refund.
	Releasing() bool
}

// Asking is one question to a [Store]: its fields up to Peek say what, the others what came of it.
type Asking struct {
	Shared Shared
	Key    Key
	Hits   uint64
	Peek   bool // takes nothing
	Shadow bool // its denial keeps nobody from taking

	Outcome Outcome
	Answer  Answer // Decided or Away
}

// Store keeps the counts that nodes share.
type Store interface {
	// Share makes the shared limit of a policy whose consistency is strict or leased.
	Share(p policy.Policy) (Shared, error)
	// Ask decides what limits could not by themselves, in one round trip where the store can: it takes all or none of what
	// is not Peek, where what is Away counts for nothing, and says of each what it thinks. It waits no longer than the store's command timeout, and fails no
	// other way than by Away.
	Ask(ctx context.Context, all []Asking)
	// Reset makes a bucket a full one, for all nodes.
	Reset(ctx context.Context, s Shared, k Key) error
	// Nodes is how many nodes there are, as far as is known: at least 1.
	Nodes() int
	// Health says how the store is.
	Health() StoreHealth
}

// StoreHealth says how a [Store] is.
type StoreHealth struct {
	Available           bool
	ConsecutiveFailures uint64
	// Breaker is closed, open or half-open.
	Breaker string
	// Since is when Breaker became what it is.
	Since time.Time
}

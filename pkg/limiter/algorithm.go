package limiter

import (
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Instant is one moment by both clocks.
type Instant struct {
	Ticks bucket.Ticks  // goes on evenly, and wraps as [bucket.Ticks] do
	Unix  time.Duration // since the start of 1970; somebody may set it, back too
}

// Bucket is one bucket of a policy: a name in a table. An algorithm may keep more than one entry for it,
// under hashes that it derives.
type Bucket struct {
	Table *bucket.Table
	Hash  uint64
}

// Outcome is what an [Algorithm] says.
type Outcome struct {
	Admitted   bool
	Pressure   bool // all entries of the bucket's set owed tokens
	Remaining  uint64
	ResetAfter time.Duration
	RetryAfter time.Duration // [Never]: no wait will do
	Delay      time.Duration
	// Grant and Found are for the algorithm to know in Refund what it took, and what it found there before.
	Grant uint64
	Found [2]bucket.Ticks
}

// Algorithm turns the limit of one policy into decisions. It keeps its state in the bucket's table alone.
// Its methods are called for each request, by many goroutines at once, and must neither block nor
// allocate.
type Algorithm interface {
	// Take takes hits, 1 or more, from a bucket if it has them, and nothing if not.
	Take(b Bucket, now Instant, hits uint64) Outcome
	// Peek says what Take would, and takes nothing.
	Peek(b Bucket, now Instant, hits uint64) Outcome
	// Refund gives back what Take admitted, as its Outcome has it: because another policy denied, and then
	// at the same instant; or, of a [Releasing] one, because what was in flight ended.
	Refund(b Bucket, now Instant, o Outcome, hits uint64)
	// Reset makes a bucket a full one, as nobody ever asked for it.
	Reset(b Bucket, now Instant)
}

// NewAlgorithm makes the algorithm of one policy, which is valid.
type NewAlgorithm func(policy.Policy) (Algorithm, error)

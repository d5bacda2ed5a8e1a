package ratesync

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// ID names a bucket for all nodes: see limiter.Key.
type ID = [16]byte

// Never is the wait of hits that are more than a full bucket holds.
const Never time.Duration = math.MaxInt64

// Limit is what the store needs to know of a policy. It is compared, and never changed.
type Limit struct {
	Algorithm policy.Algorithm
	Limit     uint64 // tokens, 1 to policy.MaxTokens
	Window    time.Duration
	Burst     uint64
}

// Verb is what an [Op] does.
type Verb uint8

const (
	// Take takes Hits, or nothing. Those of one Group other than 0 are all done or none: all were if each is Admitted.
	// In a Redis Cluster buckets of several shards are taken from one after the other, and given back to if one denies.
	Take Verb = iota
	// Look says what Take would, and takes nothing.
	Look
	// Lease gives Back what the node has left of its last lease, then takes Want, or as much of it as there is, but nothing
	// if that is less than Hits. token_bucket, fixed_window and sliding_window alone. The same Seq again gets the same
	// grant, and takes nothing: the first answer was lost. If it was none it is told how long to wait from now on.
	Lease
	// Return gives back Hits that were taken or leased: those of Grant. Of a window that is over nothing comes back.
	Return
	// Report takes Hits, be they there or not, up to an empty bucket: they were used without asking. The bucket then owes
	// Want at least, which is what the node knows of where the store may have lost it. The same Seq again takes nothing:
	// the first answer was lost. token_bucket alone.
	Report
	// Reset makes the bucket a full one.
	Reset
)

// Op is one operation on one bucket.
type Op struct {
	Verb  Verb
	ID    ID
	Limit *Limit
	Hits  uint64
	Want  uint64 // Lease: at least Hits; Report: a debt, at most Limit.Burst, which Total does not count
	Back  uint64 // Lease
	Seq   uint32 // Lease, Report: counted by the node for each bucket, from 1; 0: the answer may be lost
	Grant uint64 // Take of concurrency: the name under which Hits are in flight; Return: of which they are, or Reply.Grant
	Group int    // Take; 0: of no group
}

// Reply is what came of an [Op].
type Reply struct {
	// Err is why this operation alone was not done: [ErrState]. The others of the call were. With another error it is not known
	// whether it was: a server of several did not answer.
	Err      error
	Admitted bool   // Take, Look
	Granted  uint64 // Lease: tokens that the node has now
	// Left is how many tokens there are now.
	Left uint64
	// Full is when the bucket will be full: at a token_bucket its debt.
	Full time.Duration
	// Wait is how long Hits have to wait, or [Never]; 0 if they were admitted.
	Wait time.Duration
	// Delay is how long what was admitted has to wait in the queue: leaky_bucket.
	Delay time.Duration
	// Good is how long a lease may be used: until its window ends; 0: without end.
	Good time.Duration
	// Grant is what Return of it needs to know, or 0: of a window which it is, of leaky_bucket when its turn is. Without it
	// a window gives back to that of the node's last lease or else the present one, and leaky_bucket any place.
	Grant uint64
	// Total counts what all nodes reported since the bucket was last full and forgotten: Report.
	Total uint64
}

// unanswered is an Err that leaves open whether it was done.
func (r *Reply) unanswered() error {
	if _, ok := errors.AsType[*Error](r.Err); ok {
		return r.Err
	}
	return nil
}

// ErrState says that what the store has under a bucket's key is not what weir keeps there: another type, or figures out of
// range. Nothing was changed.
var ErrState = errors.New("the store has something else under the key of a bucket")

// Executor does operations. Its methods may be called by several goroutines at once.
type Executor interface {
	// Do does the operations in their order, in one round trip to each server that is concerned, and replies to each; node
	// is whose leases they are. An error means that it is not known which were done.
	Do(ctx context.Context, node string, ops []Op, replies []Reply) error
}

// Prompt is an [Executor] whose Do returns as soon as its context is done, so that who has to wait may call it himself.
type Prompt interface {
	Executor
	// Prompt tells whether it is one, as it is set up.
	Prompt() bool
}

package limiter

import (
	"context"
	"errors"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// Options says how a [Limiter] is made. The zero value is usable.
type Options struct {
	// Entries is the size of the bucket table, 16 bytes each: a power of two from 1024 on; 0 means
	// [DefaultEntries].
	Entries int
	// Algorithms are further algorithms, by the name that policies know them by.
	Algorithms map[policy.Algorithm]NewAlgorithm
	// Clock tells the time; nil: that of the machine.
	Clock func() Instant
}

// DefaultEntries make a table of 16 MiB, which holds a quarter of a million active keys without ever
// forgetting a debt.
const DefaultEntries = 1 << 20

// Limiter decides over requests. Its methods may be called by many goroutines at once.
type Limiter struct {
	_ int
}

// Rule is a limit outside the policies: see [Limiter.NewRule].
type Rule struct{ _ int }

// lease is what a result holds until it is released.
type lease struct{ _ int }

var errStub = errors.New("not built yet")

// New makes a limiter without policies, which allows everything.
func New(o Options) (*Limiter, error) { return nil, errStub }

// CheckRateLimit charges one hit to the bucket of a key that holds limit tokens per window.
func (l *Limiter) CheckRateLimit(ctx context.Context, key string, limit uint64, window time.Duration) (Result, error) {
	return l.Check(ctx, Query{Key: key, Limit: limit, Window: window, Hits: 1})
}

// CheckRequest charges one hit to every policy that applies to a request. The key stands for the client
// where the request has no address.
func (l *Limiter) CheckRequest(ctx context.Context, key string, r *RequestContext) (Result, error) {
	return l.Check(ctx, Query{Key: key, Request: r, Hits: 1})
}

// Check decides over one query. The error is a [*QueryError], or that of a context that is over.
func (l *Limiter) Check(ctx context.Context, q Query) (Result, error) { return Result{}, errStub }

// CheckAll decides over several queries at once: if one is denied, none is charged, and every result still
// says what would become of its own query. results has the length of queries, 1 to 64 or so. An error
// concerns the query whose index is returned with it.
func (l *Limiter) CheckAll(ctx context.Context, queries []Query, results []Result) (bad int, err error) {
	return 0, errStub
}

// NewRule makes a limit that queries can name, from a policy of any scope: what a bucket is for, the
// query's key says. Rules of one name share their buckets, counters included.
func (l *Limiter) NewRule(p policy.Policy) (*Rule, error) { return nil, errStub }

// Releases tells whether a result holds something until it is released: a place among the requests in
// flight.
func (r *Result) Releases() bool { return false }

// Release ends the request that a result is of, as far as policies count what is in flight. Later calls for
// the same result, and for one that holds nothing, do nothing.
func (l *Limiter) Release(r *Result) {}

// LeaseToken is what a client that is not in this process can end its request with, by [Limiter.ReleaseToken];
// empty if the result holds nothing. The result must not be released as well.
func (l *Limiter) LeaseToken(r *Result) string { return "" }

// ReleaseToken releases what a token of [Limiter.LeaseToken] stands for. It fails with a [*QueryError] if
// the token is none of this limiter's, was used before or is over.
func (l *Limiter) ReleaseToken(token string) error { return errStub }

// Document is what is in force: policies of all layers, as they were given, and lists.
func (l *Limiter) Document() policy.Document { return policy.Document{} }

// Replace puts a document in force, in one step for requests. Buckets of policies that keep name and scope
// keep their state. Policies of layer kernel and those that are off are kept, and decide nothing. It fails, and changes
// nothing, with an [*InvalidError].
func (l *Limiter) Replace(doc policy.Document) error { return errStub }

// InvalidError is why policies can't be put in force.
type InvalidError struct{ Faults []policy.Fault }

// Error has a line for each fault.
func (e *InvalidError) Error() string { return "" }

// ErrUnknownPolicy and ErrPolicyExists are why a policy can't be changed, or added.
var (
	ErrUnknownPolicy = errors.New("no such policy")
	ErrPolicyExists  = errors.New("there is a policy of this name")
)

// AddPolicy puts one more policy in force, with its defaults filled in. It fails with [ErrPolicyExists] or an [*InvalidError].
func (l *Limiter) AddPolicy(ctx context.Context, p policy.Policy) error { return errStub }

// UpdatePolicy puts a policy in the place of the one of the same name, or fails with [ErrUnknownPolicy] or
// an [*InvalidError].
func (l *Limiter) UpdatePolicy(ctx context.Context, p policy.Policy) error { return errStub }

// RemovePolicy takes a policy out of force, or fails with [ErrUnknownPolicy].
func (l *Limiter) RemovePolicy(ctx context.Context, name string) error { return errStub }

// Health says how the limiter is.
func (l *Limiter) Health(ctx context.Context) Health { return Health{} }

// Stats counts what the limiter did. It walks over all of the table: not for every request.
func (l *Limiter) Stats(ctx context.Context) Stats { return Stats{} }

// Durations is a histogram of how long decisions took.
type Durations struct {
	Bounds []time.Duration // upper, included
	Counts []uint64        // of each bound, not cumulated, and one more for what took longer
	Sum    time.Duration
}

// Durations tells how long decisions took, by backend: memory, redis, fallback.
func (l *Limiter) Durations() map[string]Durations { return nil }

// BucketState is what there is in one bucket of a policy.
type BucketState struct {
	Policy     string
	Remaining  uint64
	Burst      uint64
	ResetAfter time.Duration
	RetryAfter time.Duration // until one hit is admitted
	Known      bool          // it has an entry in the table; if not, it is full
}

// Bucket tells the state of the bucket that a policy of layer l7 has for a key, as its scope spells it: an address, a user, a
// digest of an API key, an endpoint, "-" for scope global, the text that a template makes for scope custom.
// It fails with [ErrUnknownPolicy] or a [*QueryError].
func (l *Limiter) Bucket(policyName, key string) (BucketState, error) { return BucketState{}, errStub }

// ResetBucket fills the bucket, or fails like Bucket.
func (l *Limiter) ResetBucket(policyName, key string) error { return errStub }

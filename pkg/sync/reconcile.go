package ratesync

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/weir-limiter/weir/pkg/bucket"
	"github.com/weir-limiter/weir/pkg/policy"
)

// BucketTable is where this node decides: the kernel's table, or another one. Others charge it at the same time. S says where
// in it a source's bucket is.
type BucketTable[S any] interface {
	// Use is how many tokens a bucket has given since its entry was claimed, modulo 2^32, and its TAT; not found: the source
	// has no entry, and so a full bucket.
	Use(at S) (used uint32, tat bucket.Ticks, found bool)
	// Adjust makes a bucket owe delta ticks more, or less: see [bucket.Limit.Adjust]. applied is what came of it.
	Adjust(at S, now bucket.Ticks, delta int64) (applied int64, found bool)
}

// ReconciledPolicy is what a [Reconciler] needs to know of a policy. It is never changed.
type ReconciledPolicy struct {
	Limit  Limit        // as the store is told
	Bucket bucket.Limit // as the table is charged
	// Quantum is the fewest tokens worth granting: 1, or the length of a packet where bytes are counted.
	Quantum uint64
	// Share says what the node admits while the store is away: its part of the limit, else the whole.
	Share bool
}

// EthernetFrame is the quantum of a policy that counts bytes.
const EthernetFrame = 1514

// NewReconciledPolicy takes what is needed from p, which must be valid and of consistency reconciled. The kernel has one
// answer for a source, its bucket, so that on_store_failure cannot be open or closed: the first would be no limit, and the
// second would make an outage of the store one of the network, this host's way to the store perhaps included.
func NewReconciledPolicy(p *policy.Policy) (*ReconciledPolicy, error) {
	if p.Algorithm != policy.AlgorithmTokenBucket {
		return nil, fmt.Errorf("policy %s: consistency reconciled with algorithm %s (use token_bucket)", p.Name, p.Algorithm)
	}
	if p.OnStoreFailure != policy.StoreFailureLocal && p.OnStoreFailure != policy.StoreFailureShare {
		return nil, fmt.Errorf("policy %s: consistency reconciled with on_store_failure %s: a packet does not wait to hear of it (use local or share)",
			p.Name, p.OnStoreFailure)
	}
	window := time.Duration(p.Window)
	l, err := bucket.NewLimit(p.Limit, window, p.Burst)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", p.Name, err)
	}
	r := &ReconciledPolicy{
		Limit:   Limit{Algorithm: p.Algorithm, Limit: p.Limit, Window: window, Burst: p.Burst},
		Bucket:  l,
		Quantum: 1,
		Share:   p.OnStoreFailure == policy.StoreFailureShare,
	}
	if p.Unit == policy.UnitBytes {
		r.Quantum = min(EthernetFrame, p.Burst)
	}
	return r, nil
}

// Source is a bucket of a policy that all nodes know by ID, and this node's table as At.
type Source[S any] struct {
	Policy *ReconciledPolicy
	ID     ID
	At     S
}

// ReconcileConfig says how much a [Reconciler] may do. Zeros are replaced by the defaults.
type ReconcileConfig struct {
	Interval time.Duration // between rounds: 10 ms to 500 ms, default 100 ms
	Sources  int           // tracked at most, default 65536
	Reports  int           // operations in a round at most, default 2000
	Seed     uint64        // should differ from node to node
}

const (
	owedMax = bucket.DepthMax
	// lag is how many intervals pass until all know of what was used: one until it is told, one until it is heard.
	lag = 2
	// stale is how many intervals late it may be that use is read or told.
	stale = 4
	// quietRounds is after how many rounds a source is asked for that this node has told nothing of.
	quietRounds = 8
)

// Reconciler tells the store what busy sources used here, and charges them here for what they used elsewhere. It has no
// clock, starts nothing and waits for nothing: its owner calls, once in every interval, Plan, has the operations done,
// and then Apply or Fail; or Away, if the store is not to be asked. It is not safe for concurrent use.
//
// # What it keeps
//
// Of each source the node keeps what the whole cluster owes, as far as it has heard: its own use as soon as it reads it,
// the others' by how the store's Total grows. Unlike the store's debt, which ends at an empty bucket, this one goes on
// growing when nodes admit more than there was, up to a burst for each node, and is paid back. A source that sprays all
// nodes with a burst each, and then rests for as long as a bucket takes to fill, so gets the burst of every node once; it
// would get it again and again if debts ended at an empty bucket. And it is this debt that survives a store that lost its
// data.
//
// # What it decides
//
// With B the depth, D the debt and i the interval, B - D + i is what the cluster may admit until the next round. Each
// node reserves the others' part of it, by charging its own bucket:
//
//	TAT = now + D + min((1 - w) * (B - D + i), 2 * others)
//	w   = 4/5 * own / (own + others) + 1/5 / nodes
//
// own and others being what was used lately. The weights of all nodes sum to 1, so that nodes which all go to their
// limit admit together what there is, whatever came before: the error of one round does not feed the next one's. Plain
// prediction, others instead of the minimum, does: nodes that were denied together used nothing, expect nothing, and then
// take everything at once, each. The fifth that goes to all alike lets a node that was given nothing ask for more; what
// it does not use is there, undivided, in the next round. Twice the others' use instead of their part is what lets a
// source that is far from its limit have its whole burst at whichever node it comes to.
//
// A part smaller than a packet is given whole, with as much luck as it is large.
type Reconciler[S any] struct {
	c        ReconcileConfig
	interval bucket.Ticks
	table    BucketTable[S]
	sources  []tracked[S]
	index    map[ID]int32
	random   uint64
	seq      uint32 // of the last report
	round    uint32
	nodes    int
	planned  bucket.Ticks // when
	away     bool
	lost     bool // an answer showed that the store lost its data
	refused  int  // announcements, since the last round

	ops     []Op
	planOf  []int32 // by operation: the source
	classes [classCount]uint32
	stats   ReconcileStats
}

// ReconcileStats counts since the start, but for the first two.
type ReconcileStats struct {
	Tracked  int    // sources, now
	Deferred int    // sources whose use was left for another round, in the last one
	Reports  uint64 // operations
	Refused  uint64 // announcements for which there was no room
	Shed     uint64 // sources that made room for heavier ones
	Lost     uint64 // replies that showed that the store lost its data, or had something else there
}

// tracked is a source and what is known of it. Tokens are of its policy's unit.
type tracked[S any] struct {
	src     Source[S]
	used    uint32       // the entry's, when last read
	seq     uint32       // of the last report
	spent   uint64       // tokens used and not reported
	sent    uint64       // tokens of the report that is not answered, if pending
	balance int64        // ticks that all nodes owe, as far as is known here
	at      bucket.Ticks // when it was so much
	heard   bucket.Ticks // when the store last answered
	spare   bucket.Ticks // of the entry's TAT, what was put there
	others  bucket.Ticks // what the other nodes used between two reports lately, at the most
	total   uint64       // the store's, when it last answered
	own     float32      // ticks used lately, here
	else_   float32      // and elsewhere
	class   uint16
	quiet   uint8 // rounds without a report
	idle    uint8 // rounds without use
	flags   uint8
}

func (t *tracked[S]) owed() bucket.Ticks { return bucket.Ticks(max(0, t.balance)) }

const (
	isRead  = 1 << iota // used is known
	isKnown             // total is known
	isPending
	isLucky     // was given a packet
	isElsewhere // was used elsewhere, when the store last answered
	isCurious   // told of use: others did perhaps at the same time, and shall be heard in the next round
	isRestoring // the next report tells what is owed
)

// ErrReconcile is wrapped by the errors of [NewReconciler].
var ErrReconcile = errors.New("reconciliation settings out of range")

// NewReconciler makes one over table.
func NewReconciler[S any](c ReconcileConfig, table BucketTable[S]) (*Reconciler[S], error) {
	if c.Interval == 0 {
		c.Interval = 100 * time.Millisecond
	}
	if c.Sources == 0 {
		c.Sources = 1 << 16
	}
	if c.Reports == 0 {
		c.Reports = 2000
	}
	if c.Interval < 10*time.Millisecond || c.Interval > 500*time.Millisecond || c.Sources < 1 || c.Sources > 1<<20 || c.Reports < 1 {
		return nil, fmt.Errorf("%w: interval %v (10ms to 500ms), %d sources (1 to %d), %d reports (1 or more)",
			ErrReconcile, c.Interval, c.Sources, 1<<20, c.Reports)
	}
	c.Reports = min(c.Reports, c.Sources)
	r := &Reconciler[S]{
		c:        c,
		interval: bucket.AtNanoseconds(uint64(c.Interval)),
		table:    table,
		index:    make(map[ID]int32),
		random:   c.Seed,
		nodes:    1,
	}
	r.seq = uint32(r.draw() * (1 << 32)) // unlike the last time that a node of this name ran
	return r, nil
}

// Announce has a source tracked that the kernel calls hot, of which used tokens at least were used since it was last
// called so; false if there is no room, which is made in the next round. What is used from now on is counted.
func (r *Reconciler[S]) Announce(now bucket.Ticks, s Source[S], used uint64) bool {
	if _, known := r.index[s.ID]; known {
		return true
	}
	if len(r.sources) >= r.c.Sources {
		r.refused++
		r.stats.Refused++
		return false
	}
	r.index[s.ID] = int32(len(r.sources))
	r.sources = append(r.sources, tracked[S]{src: s, spent: min(used, s.Policy.Limit.Burst)})
	r.read(&r.sources[len(r.sources)-1], now)
	return true
}

// Replace gives tracked sources the policies and places that f makes of theirs, whose ID it must not change; those for which it
// returns false are forgotten. It must not be called between Plan and what follows it.
func (r *Reconciler[S]) Replace(f func(Source[S]) (Source[S], bool)) {
	for i := 0; i < len(r.sources); {
		if s, ok := f(r.sources[i].src); ok {
			r.sources[i].src = s
			i++
			continue
		}
		r.drop(i)
	}
}

// Interval is how often there is to be a round.
func (r *Reconciler[S]) Interval() time.Duration { return r.c.Interval }

// Stats says what was done.
func (r *Reconciler[S]) Stats() ReconcileStats {
	s := r.stats
	s.Tracked = len(r.sources)
	return s
}

// drop forgets a source, whose place the last one takes.
func (r *Reconciler[S]) drop(i int) {
	last := len(r.sources) - 1
	delete(r.index, r.sources[i].src.ID)
	if i != last {
		r.sources[i] = r.sources[last]
		r.index[r.sources[i].src.ID] = int32(i)
	}
	r.sources[last] = tracked[S]{}
	r.sources = r.sources[:last]
}

// draw is a number in [0, 1): splitmix64 (G. Steele, D. Lea, C. Flood, 2014).
func (r *Reconciler[S]) draw() float64 {
	r.random += 0x9e3779b97f4a7c15
	z := r.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

// costOf is what tokens cost, owedMax at the most.
func costOf(l *bucket.Limit, tokens uint64) bucket.Ticks {
	hi, lo := bits.Mul64(tokens, l.TokenTime)
	if hi>>l.FracBits != 0 {
		return owedMax
	}
	return min(owedMax, bucket.Ticks(lo>>l.FracBits|hi<<(64-l.FracBits)))
}

// tokensIn is how many whole tokens cost as much.
func tokensIn(l *bucket.Limit, t bucket.Ticks) uint64 {
	hi, lo := bits.Mul64(uint64(t), 1<<l.FracBits)
	if hi >= l.TokenTime {
		return math.MaxUint64
	}
	tokens, _ := bits.Div64(hi, lo, l.TokenTime)
	return tokens
}

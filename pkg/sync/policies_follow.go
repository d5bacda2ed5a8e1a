package ratesync

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// How a node follows.
const (
	defaultPoll = 5 * time.Second
	// hintRest is how long a node rests after it heard of a set, and as long again by chance: a thousand nodes must not read
	// it in the same moment, nor one be kept busy by whoever floods the channel.
	hintRest = 100 * time.Millisecond
	// tellEvery is how often a node tells its version when that stays what it is; forgetEvery how often it tidies.
	tellEvery   = 30 * time.Second
	forgetEvery = 20 // tellings
	// fullEvery is how often the set is read though its head is known: its body may have been spoilt.
	fullEvery = 5 * time.Minute
	// What can't be taken up is tried again after a while: the reason may have gone.
	firstRetry = 30 * time.Second
	lastRetry  = 15 * time.Minute
)

// PolicyFollowerOptions says what a [PolicyFollower] follows.
type PolicyFollowerOptions struct {
	Store *PolicyStore
	// Node is this node's name, as the others see it.
	Node string
	// Apply puts a set in force, whole or not at all; nil takes it out of force, and the node goes back to its file. An
	// error says why this node can't, and leaves what was in force.
	Apply func(ctx context.Context, doc *policy.Document) error
	// Path is the file in which the last set in force is kept; empty: it is not.
	Path string
	// Every is how often the store is asked, give or take a fifth; 0: 5 s.
	Every time.Duration
	Log   *slog.Logger
}

// PolicyFollower keeps a node's policies those of its cluster. Its methods may be called by several goroutines at once.
type PolicyFollower struct {
	o    PolicyFollowerOptions
	turn sync.Mutex // one poll at a time

	mu      sync.Mutex // guards what follows; never held while waiting
	have    *PolicySet // in force; nil: the node's own
	refused *refusal
	seen    string    // the head that is not worth reading again
	full    time.Time // when it was read last
	told    time.Time
	tells   int
	status  PolicyStatus
}

// refusal is what is in the store and can't be taken up.
type refusal struct {
	head    string
	version uint64 // 0: it can't be read
	reason  string
	at, due time.Time
	wait    time.Duration
}

// PolicyStatus tells how a node follows.
type PolicyStatus struct {
	// Set is in force; nil: the cluster has none. It may be a cleared one.
	Set *PolicySet
	// Refused is the version that this node can't take, 0 if it can't even be read; Reason says why, and is empty if
	// there is no such set.
	Refused uint64
	Reason  string
	Since   time.Time
	// Subscribed says that changes are heard of at once, and not at the next poll.
	Subscribed bool
	// Reached is when the store answered last, and Fault why it did not since; empty: it did.
	Reached time.Time
	Fault   string
	// Unkept is why the set in force is not on disk; empty: it is, or is not to be.
	Unkept string
	// Taken counts sets that were put in force, Refusals those that this node can't take, Garbage those that can't be
	// read, Older those that were older than the node's own, and Offered the times it gave its own back to the store.
	Taken, Refusals, Garbage, Older, Offered uint64
}

// NewPolicyFollower makes a follower, which follows once it runs.
func NewPolicyFollower(o PolicyFollowerOptions) *PolicyFollower {
	if o.Every == 0 {
		o.Every = defaultPoll
	}
	o.Node = printable(o.Node)
	return &PolicyFollower{o: o}
}

// Restore puts the set that was kept on disk in force by apply, for a start without Redis, and tells whether there is one
// in force now that has policies. What is wrong with it is logged, and shown by Status.
func (f *PolicyFollower) Restore(apply func(doc *policy.Document) error) bool {
	if f.o.Path == "" {
		return false
	}
	s, err := readKept(f.o.Path, f.o.Store.o.Prefix)
	if err != nil {
		f.count(func(st *PolicyStatus) {
			if errors.Is(err, ErrPolicySet) {
				st.Garbage++
			}
		})
		f.o.Log.Error("the cluster's policies that were kept are of no use; the file's own are in force until Redis answers", "error", err)
		return false
	}
	if s == nil {
		return false
	}
	if err := apply(s.document()); err != nil {
		f.refuse(s.record.head(), s.Version, err, time.Now())
		return false
	}
	f.adopt(s, time.Now())
	f.o.Log.Info("the cluster's policies that were kept are in force", "version", s.Version, "cleared", s.Cleared)
	return !s.Cleared
}

// document is what is put in force; nil: nothing.
func (s *PolicySet) document() *policy.Document {
	if s.Cleared {
		return nil
	}
	return &s.Document
}

// Node is this node's name.
func (f *PolicyFollower) Node() string { return f.o.Node }

// InForce is the set in force, which may be a cleared one; nil: the cluster has none.
func (f *PolicyFollower) InForce() *PolicySet {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have
}

// Status tells how the node follows.
func (f *PolicyFollower) Status() PolicyStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.status
	st.Set = f.have
	if r := f.refused; r != nil {
		st.Refused, st.Reason, st.Since = r.version, r.reason, r.at
	}
	return st
}

// Retry makes the next poll try again what was refused: the node may be another one now.
func (f *PolicyFollower) Retry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refused != nil {
		f.refused.due = time.Time{}
	}
}

func (f *PolicyFollower) count(change func(*PolicyStatus)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.status)
}

// Run follows until ctx ends, and returns nil. It needs no Redis: it waits for it.
func (f *PolicyFollower) Run(ctx context.Context) error {
	hints := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() { f.listen(ctx, hints) })
	defer listening.Wait()
	for {
		_ = f.Poll(ctx) // is logged, and shown by Status
		poll := time.NewTimer(jitter(f.o.Every))
		select {
		case <-ctx.Done():
		case <-poll.C:
		case <-hints:
			pause(ctx, hintRest+rand.N(hintRest))
		}
		poll.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// jitter is a time, give or take a fifth: nodes that were started together don't ask together.
func jitter(d time.Duration) time.Duration { return d - d/5 + rand.N(2*d/5+1) }

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Poll asks the store once, and takes up what is newer. An error says that the store did not answer.
func (f *PolicyFollower) Poll(ctx context.Context) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	now := time.Now()
	got, err := f.o.Store.look(ctx, f.worthless(now))
	if err == nil {
		err = f.meet(ctx, got, now)
	}
	if err == nil {
		err = f.tell(ctx, now)
	}
	if ctx.Err() == nil {
		f.reached(err, now)
	}
	return err
}

// worthless is the head of a set that need not be read.
func (f *PolicyFollower) worthless(now time.Time) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.full) >= fullEvery || f.refused != nil && !now.Before(f.refused.due) {
		return ""
	}
	return f.seen
}

// meet makes of what the store has what is to be made of it.
func (f *PolicyFollower) meet(ctx context.Context, got found, now time.Time) error {
	have := f.InForce()
	if got.same {
		return nil
	}
	if got.err != nil {
		f.garbage(got, now)
		return nil
	}
	f.looked(got.head, now)
	switch {
	case got.set == nil && have == nil:
		f.settled()
	case got.set == nil || have != nil && got.set.compare(have) < 0:
		return f.giveBack(ctx, got, have)
	case sameSet(got.set, have):
		f.settled()
	default:
		f.takeUp(ctx, got.set, now)
	}
	return nil
}

// waits tells whether what has that head was refused, and is not to be tried again yet.
func (f *PolicyFollower) waits(head string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused != nil && f.refused.head == head && now.Before(f.refused.due)
}

// looked remembers what was read.
func (f *PolicyFollower) looked(head string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.full = head, now
}

// settled says that what is in the store is in force.
func (f *PolicyFollower) settled() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = nil
}

// garbage keeps what is in force.
func (f *PolicyFollower) garbage(got found, now time.Time) {
	if f.waits(got.head, now) {
		return
	}
	f.count(func(st *PolicyStatus) { st.Garbage++ })
	f.refuse(got.head, 0, got.err, now)
}

// giveBack offers the node's own set to a store that has none, or an older one: it lost data.
func (f *PolicyFollower) giveBack(ctx context.Context, got found, have *PolicySet) error {
	if got.set != nil {
		f.count(func(st *PolicyStatus) { st.Older++ })
	}
	f.looked("", time.Now()) // to see what became of it
	stored, err := f.o.Store.offer(ctx, got.head, have)
	if err != nil || !stored {
		return err // somebody was faster: the next poll sees whom
	}
	f.count(func(st *PolicyStatus) { st.Offered++ })
	f.settled()
	f.o.Log.Warn("Redis had lost the cluster's policies, or had older ones, and has those of this node now", "version", have.Version)
	return nil
}

// takeUp puts a newer set in force.
func (f *PolicyFollower) takeUp(ctx context.Context, s *PolicySet, now time.Time) {
	err := f.o.Apply(ctx, s.document())
	switch {
	case err != nil && ctx.Err() != nil:
		f.looked("", now) // nothing was decided
		return
	case err != nil:
		f.count(func(st *PolicyStatus) { st.Refusals++ })
		f.refuse(s.record.head(), s.Version, err, now)
		return
	}
	f.adopt(s, now)
	f.o.Log.Info("the cluster's policies are in force", "version", s.Version, "by", s.By, "stored", s.At, "policies", len(s.Document.Policies), "cleared", s.Cleared)
	if f.o.Path == "" {
		return
	}
	unkept := ""
	if err := keep(f.o.Path, s); err != nil {
		unkept = err.Error()
		f.o.Log.Error("the cluster's policies are in force, and not on disk: a start without Redis will not have them",
			"error", err, "mend", "name a file in fallback.policy_cache that weir run may write")
	}
	f.count(func(st *PolicyStatus) { st.Unkept = unkept })
}

// adopt remembers what is in force.
func (f *PolicyFollower) adopt(s *PolicySet, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have, f.refused, f.seen, f.full, f.told = s, nil, s.record.head(), now, time.Time{}
	f.status.Taken++
}

// refuse remembers what can't be taken up, to be tried again later and later.
func (f *PolicyFollower) refuse(head string, version uint64, err error, now time.Time) {
	f.mu.Lock()
	r := &refusal{head: head, version: version, reason: line(err.Error()), at: now, wait: firstRetry}
	again := f.refused != nil && f.refused.head == head
	if again {
		r.at, r.wait = f.refused.at, min(2*f.refused.wait, lastRetry)
	} else {
		f.told = time.Time{}
	}
	r.due = now.Add(jitter(r.wait))
	f.refused, f.seen, f.full = r, head, now
	inForce := uint64(0)
	if f.have != nil {
		inForce = f.have.Version
	}
	f.mu.Unlock()
	if !again {
		f.o.Log.Error("the cluster's policies are refused; what was in force still is", "version", version, "in_force", inForce, "error", err)
	}
}

// tell tells the others which version the node has, when it is another or was told long ago.
func (f *PolicyFollower) tell(ctx context.Context, now time.Time) error {
	f.mu.Lock()
	due := now.Sub(f.told) >= tellEvery
	var v toldVersion
	if f.have != nil {
		v.Version = f.have.Version
	}
	if f.refused != nil {
		v.Refused, v.Reason = f.refused.version, f.refused.reason
	}
	forget := f.tells%forgetEvery == 0
	f.mu.Unlock()
	if !due {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := f.o.Store.keepAlive(ctx, f.o.Node, string(text), forget); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = now
	f.tells++
	return nil
}

// reached notes whether the store answers, and logs when that changes.
func (f *PolicyFollower) reached(err error, now time.Time) {
	f.mu.Lock()
	was := f.status.Fault
	f.status.Fault = ""
	if err == nil {
		f.status.Reached = now
	} else {
		f.status.Fault = line(err.Error())
	}
	f.mu.Unlock()
	switch {
	case err != nil && was == "":
		f.o.Log.Warn("Redis can't be asked for the cluster's policies; those in force stay", "error", err)
	case err == nil && was != "":
		f.o.Log.Info("the cluster's policies are followed again")
	}
}

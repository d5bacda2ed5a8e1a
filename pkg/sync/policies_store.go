package ratesync

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/pkg/policy"
)

// The scripts. Each is atomic, and goes by Redis' own clock.
var (
	//go:embed policies_read.lua
	policiesRead string
	//go:embed policies_put.lua
	policiesPut string
	//go:embed policies_report.lua
	policiesReport string
	//go:embed policies_nodes.lua
	policiesNodes string
)

// callLimit bounds one call to the store. A set is large, and nobody's request waits for it.
const callLimit = 3 * time.Second

// PolicyClient is what policies need of a client of go-redis. Its own timeouts have to leave room for a set of
// [MaxPolicyBody], which those of limiting, of some ms, do not; and it has to heed contexts (ContextTimeoutEnabled), or a
// Redis that hangs keeps the daemon from ending.
type PolicyClient interface {
	redis.Scripter
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

// PolicyStoreOptions says where a cluster keeps its policies.
type PolicyStoreOptions struct {
	Client PolicyClient
	// Prefix begins every key and the channel.
	Prefix string
	// Cluster says that the client is one of a Redis Cluster: keys then have a hash tag, to be in one slot.
	Cluster bool
	// TTL is how long keys live that no node keeps alive; at least [MinPolicyTTL].
	TTL time.Duration
	// Compress stores sets compressed. They are read either way.
	Compress bool
}

// PolicyStore keeps the policies of a whole cluster in Redis. Its methods may be called by several goroutines at once.
type PolicyStore struct {
	o                       PolicyStoreOptions
	set, versions, channel  string
	read, put, report, list *redis.Script
}

// NewPolicyStore makes a store, and asks nothing of Redis yet.
func NewPolicyStore(o PolicyStoreOptions) *PolicyStore {
	o.TTL = max(o.TTL, MinPolicyTTL)
	key := o.Prefix
	if o.Cluster {
		key = "{" + key + "}"
	}
	return &PolicyStore{
		o: o, set: key + ":policies", versions: key + ":versions", channel: o.Prefix + ":policies",
		read: redis.NewScript(policiesRead), put: redis.NewScript(policiesPut),
		report: redis.NewScript(policiesReport), list: redis.NewScript(policiesNodes),
	}
}

// found is what the store has.
type found struct {
	now  int64      // ms by Redis' clock
	head string     // of what there is; empty: there is nothing
	same bool       // it is what the caller has seen
	set  *PolicySet // nil: nothing, the same, or err
	err  error      // [ErrPolicySet]
}

// look reads what there is, unless that has the head that the caller has seen.
func (s *PolicyStore) look(ctx context.Context, seen string) (f found, err error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := s.read.Run(ctx, s.o.Client, []string{s.set}, append([]any{seen}, fieldSizes...)...).Slice()
	if err != nil {
		return f, storeFault("read the cluster's policies", err)
	}
	f.now, _ = at[int64](answer, 0)
	switch state, _ := at[string](answer, 1); state {
	case "none":
	case "same":
		f.head, f.same = seen, true
	case "bad":
		why, _ := at[string](answer, 2)
		f.head, f.err = "bad: "+why, noSet("%s", why)
	case "set":
		var r policyRecord
		for i, to := range []*string{&r.Begun, &r.Version, &r.Sum, &r.Encoding, &r.By, &r.At} {
			*to, _ = at[string](answer, 2+i)
		}
		body, _ := at[string](answer, 8)
		r.Body = []byte(body)
		f.head = r.head()
		f.set, f.err = r.read(s.o.Prefix)
		if f.err != nil {
			f.set = nil
		}
	default:
		return f, fmt.Errorf("read the cluster's policies: the store answers what was not asked for (is it a Redis of 5.0 or newer?)")
	}
	return f, nil
}

// at is an element of a script's answer, if it is of that type.
func at[T any](answer []any, i int) (v T, ok bool) {
	if i < len(answer) {
		v, ok = answer[i].(T)
	}
	return v, ok
}

// Get reads the set that there is; nil if there is none. That it can't be read is [ErrPolicySet].
func (s *PolicyStore) Get(ctx context.Context) (*PolicySet, error) {
	f, err := s.look(ctx, "")
	return f.set, errors.Join(err, f.err)
}

// PolicyPut is a set to store.
type PolicyPut struct {
	// Document is the set; nil clears.
	Document *policy.Document
	// Over is the set that this one was made for and takes the place of; nil: there was none.
	Over *PolicySet
	// Force stores it whatever there is, even if that can't be read.
	Force bool
	// Above is the newest set that this node knows, if Redis lost it; nil: none.
	Above *PolicySet
	// By says who does it: a short line.
	By string
}

// forceTries bounds how often one who forces a set is overtaken.
const forceTries = 16

// Put stores a set, whole or not at all, if there is still what it was made for; else the error is a
// [*PolicyConflictError].
func (s *PolicyStore) Put(ctx context.Context, p PolicyPut) (*PolicySet, error) {
	for try := 1; ; try++ {
		f, err := s.look(ctx, "")
		if err != nil {
			return nil, err
		}
		head := f.head
		switch {
		case p.Force && f.err != nil:
			head = "*" // there is nothing to be compared
		case f.err != nil:
			return nil, fmt.Errorf("%w (put another one in its place with --force)", f.err)
		case !p.Force && !sameSet(f.set, p.Over):
			return nil, conflict(p.Over, f.set)
		}
		next, err := newPolicySet(s.o.Prefix, following(f, p), p.Document, s.o.Compress)
		if err != nil {
			return nil, err
		}
		stored, err := s.swap(ctx, head, next)
		if err != nil && s.arrived(ctx, next) {
			return next, nil
		}
		if err != nil || stored {
			return next, err
		}
		if !p.Force || try == forceTries {
			f, err := s.look(ctx, "")
			if err != nil {
				return nil, err
			}
			return nil, conflict(p.Over, f.set)
		}
	}
}

// following is the head of the set after what there is and what the node knows.
func following(f found, p PolicyPut) policyHead {
	h := policyHead{begun: f.now, version: 1, by: p.By, at: f.now}
	last := f.set
	if last == nil || p.Above != nil && p.Above.compare(last) > 0 {
		last = p.Above
	}
	switch {
	case last == nil:
	case last.Version == maxVersion:
		h.begun = max(h.begun, last.Begun+1)
	default:
		h.begun, h.version = last.Begun, last.Version+1
	}
	return h
}

func sameSet(a, b *PolicySet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.record.head() == b.record.head()
}

func conflict(want, have *PolicySet) error {
	e := &PolicyConflictError{Have: have}
	if want != nil {
		e.Want = want.Version
	}
	return e
}

// swap stores a set in the place of what has that head; false: something else is there.
func (s *PolicyStore) swap(ctx context.Context, head string, next *PolicySet) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	args := append([]any{head, s.o.TTL.Milliseconds(), s.channel}, next.record.fields()...)
	n, err := s.put.Run(ctx, s.o.Client, []string{s.set}, args...).Int()
	return n == 1, storeFault("store the cluster's policies", err)
}

// arrived tells whether a set is there after all, of which the store's answer was lost.
func (s *PolicyStore) arrived(ctx context.Context, next *PolicySet) bool {
	f, err := s.look(ctx, next.record.head())
	return err == nil && f.same
}

// offer gives back to the store what it lost, if there is still nothing, or still what has that head.
func (s *PolicyStore) offer(ctx context.Context, head string, mine *PolicySet) (bool, error) {
	return s.swap(ctx, head, mine)
}

// keepAlive tells the store which version a node has, and keeps the set from expiring.
func (s *PolicyStore) keepAlive(ctx context.Context, node, told string, forget bool) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	flag := strconv.Itoa(0)
	if forget {
		flag = strconv.Itoa(1)
	}
	keys := []string{s.versions, s.set}
	args := []any{node, told, s.o.TTL.Milliseconds(), nodeMemory.Milliseconds(), maxNodes, flag}
	return storeFault("tell the version of the policies", s.report.Run(ctx, s.o.Client, keys, args...).Err())
}

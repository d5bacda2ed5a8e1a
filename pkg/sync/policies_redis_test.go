package ratesync

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/policy"
)

// waitLimit bounds whatever these tests wait for, far above what it takes.
const waitLimit = 20 * time.Second

// server is a redis-server of the test's own, and a client of it.
type server struct {
	t     *testing.T
	redis *redistest.Server
	*redis.Client
}

func startServer(t *testing.T, configuration ...string) *server {
	t.Helper()
	s := &server{t: t, redis: redistest.Start(t, redistest.Options{Config: configuration})}
	s.Client = s.client("")
	return s
}

// client is another client, of a user or of none.
func (s *server) client(user string) *redis.Client {
	o := &redis.Options{Network: "unix", Addr: s.redis.Socket, ContextTimeoutEnabled: true, MaxRetries: -1}
	if user != "" {
		o.Username, o.Password = user, "secret"
	}
	c := redis.NewClient(o)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *server) store(change ...func(*PolicyStoreOptions)) *PolicyStore {
	o := PolicyStoreOptions{Client: s.client(""), Prefix: "weir"}
	for _, c := range change {
		c(&o)
	}
	return NewPolicyStore(o)
}

// must does what Redis must be able to do.
func (s *server) must(args ...any) {
	s.t.Helper()
	if err := s.Client.Do(s.t.Context(), args...).Err(); err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(waitLimit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond) // for another process
	}
}

// limits is a document of one policy of layer 7 with that limit.
func limits(limit uint64) *policy.Document {
	p := policy.Policy{Name: "per-user", Scope: policy.ScopePerUser, Limit: limit, Window: time.Minute, Layer: policy.LayerL7}.WithDefaults()
	return &policy.Document{Policies: []policy.Policy{p}}
}

// node is a node that notes what it is told to put in force.
type node struct {
	*PolicyFollower
	t      *testing.T
	log    testutil.Log
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	inForce uint64 // the limit; 0: the file's own
	applied int
	never   []uint64 // limits that it can't take
}

func (n *node) apply(_ context.Context, doc *policy.Document) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.applied++
	limit := uint64(0)
	if doc != nil {
		limit = doc.Policies[0].Limit
	}
	if slices.Contains(n.never, limit) {
		return fmt.Errorf("the kernel has no room for %d", limit)
	}
	n.inForce = limit
	return nil
}

func (n *node) limit() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.inForce
}

func newNode(t *testing.T, name string, store *PolicyStore, change ...func(*PolicyFollowerOptions)) *node {
	t.Helper()
	n := &node{t: t}
	o := PolicyFollowerOptions{
		Store: store, Node: name, Apply: n.apply, Path: filepath.Join(t.TempDir(), "kept.json"), Every: 20 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&n.log, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	n.PolicyFollower = NewPolicyFollower(o)
	return n
}

// run follows until the test ends, or stop is called.
func (n *node) run() *node {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.done.Go(func() {
		if err := n.Run(ctx); err != nil {
			n.t.Error(err)
		}
	})
	n.t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	n.cancel()
	n.done.Wait()
}

// poll polls once.
func (n *node) poll() {
	n.t.Helper()
	if err := n.Poll(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// has waits until that limit is in force.
func (n *node) has(limit uint64) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("limit %d", limit), func() error {
		if got := n.limit(); got != limit {
			return fmt.Errorf("limit %d; log:\n%s", got, n.log.String())
		}
		return nil
	})
}

// put stores a set over the one that there is.
func put(t *testing.T, s *PolicyStore, doc *policy.Document) *PolicySet {
	t.Helper()
	over, err := s.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.Put(t.Context(), PolicyPut{Document: doc, Over: over, By: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

package ratesync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/policy"
)

// TestFollowByAnnouncement: with an hour between polls all nodes have a set within a second.
func TestFollowByAnnouncement(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, newNode(t, fmt.Sprint("node-", i), r.store(), func(o *PolicyFollowerOptions) { o.Every = time.Hour }).run())
	}
	for _, n := range nodes {
		eventually(t, "a subscription", func() error {
			if !n.Status().Subscribed {
				return errors.New("none")
			}
			return nil
		})
	}
	for limit := range uint64(3) {
		put(t, r.store(), limits(limit+1))
		stored := time.Now()
		for _, n := range nodes {
			n.has(limit + 1)
		}
		if took := time.Since(stored); took > time.Second {
			t.Errorf("in force after %v, want a second", took)
		}
	}
	put(t, r.store(), nil)
	for _, n := range nodes {
		n.has(0)
		if set := n.InForce(); !set.Cleared || set.Version != 4 {
			t.Errorf("in force: %+v", set)
		}
	}
	eventually(t, "what the nodes tell", func() error {
		told, err := r.store().Nodes(t.Context())
		if err != nil || len(told) != 3 || told[0].Version != 4 || told[2].Version != 4 {
			return fmt.Errorf("%+v, %v", told, err)
		}
		return nil
	})
}

// TestFollowByPolling: a user that may not subscribe polls, and says so once.
func TestFollowByPolling(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	r.must("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "resetchannels", "+@all")
	store := NewPolicyStore(PolicyStoreOptions{Client: r.client("deaf"), Prefix: "weir"})
	n := newNode(t, "deaf", store).run()
	put(t, r.store(), limits(5))
	n.has(5)
	put(t, r.store(), limits(6))
	n.has(6)
	if n.Status().Subscribed || strings.Count(n.log.String(), "not announced") != 1 {
		t.Errorf("subscribed %v, and the log has:\n%s", n.Status().Subscribed, n.log.String())
	}
}

// TestFollowAfterDisconnect: a subscription that is cut is made again.
func TestFollowAfterDisconnect(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	n := newNode(t, "a", r.store(), func(o *PolicyFollowerOptions) { o.Every = time.Hour }).run()
	put(t, r.store(), limits(5))
	n.has(5)
	r.must("CLIENT", "KILL", "TYPE", "pubsub")
	put(t, r.store(), limits(6)) // announced to nobody, perhaps
	n.has(6)
}

// TestFollowWithoutRedis: a start without Redis has what was kept, and waits for it without a hot loop.
func TestFollowWithoutRedis(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	first := newNode(t, "a", r.store())
	put(t, r.store(), limits(5))
	first.poll()
	path := first.o.Path
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kept as %v, %v", info, err)
	}
	redistest.Must(t, r.redis.Kill())

	n := newNode(t, "a", r.store(), func(o *PolicyFollowerOptions) { o.Path = path })
	restore := func(doc *policy.Document) error { return n.apply(t.Context(), doc) }
	if !n.Restore(restore) || n.limit() != 5 || n.InForce().Version != 1 {
		t.Fatalf("restored %d of %+v", n.limit(), n.InForce())
	}
	n.run()
	eventually(t, "a fault", func() error {
		if n.Status().Fault == "" {
			return errors.New("none")
		}
		return nil
	})
	redistest.Must(t, r.redis.Restart()) // empty
	eventually(t, "an offer", func() error {
		if set, err := r.store().Get(t.Context()); err != nil || set == nil || set.Version != 1 || set.Document.Policies[0].Limit != 5 {
			return fmt.Errorf("%+v, %v", set, err)
		}
		return nil
	})
	put(t, r.store(), limits(6))
	n.has(6)
	if got := n.Status(); got.Offered != 1 || got.Fault != "" && time.Since(got.Reached) > waitLimit {
		t.Errorf("status %+v", got)
	}
	if strings.Count(n.log.String(), "can't be asked for the cluster's policies") != 1 {
		t.Errorf("the log has:\n%s", n.log.String())
	}
}

// TestKeptSpoilt: no change of the file gets a set in force, nor crashes.
func TestKeptSpoilt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "kept.json")
	set, err := newPolicySet("weir", policyHead{begun: 1, version: 3}, limits(5), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := keep(path, set); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readKept(path, "weir"); err != nil || !sameSet(got, set) {
		t.Fatalf("kept %+v, %v", got, err)
	}
	if _, err := readKept(path, "other"); !errors.Is(err, ErrPolicySet) {
		t.Errorf("of another prefix: %v", err)
	}
	spoilt := map[string][]byte{"empty": nil, "zeros": make([]byte, 4096), "long": make([]byte, maxKept+1)}
	for i := 0; i < len(good); i += 7 {
		spoilt[fmt.Sprint("cut at ", i)] = good[:i]
		flipped := []byte(string(good))
		flipped[i] ^= 4
		spoilt[fmt.Sprint("flipped at ", i)] = flipped
	}
	for name, text := range spoilt {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readKept(path, "weir")
		if err == nil && sameSet(got, set) {
			continue // a flip in what JSON does not look at, such as the capitals of a name
		}
		if err == nil || !errors.Is(err, ErrPolicySet) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	n := newNode(t, "a", NewPolicyStore(PolicyStoreOptions{Prefix: "weir"}), func(o *PolicyFollowerOptions) { o.Path = path })
	if n.Restore(func(*policy.Document) error { return errors.New("called") }) || n.Status().Garbage != 1 {
		t.Errorf("restored: %+v", n.Status())
	}
	left, err := fs.Glob(os.DirFS(filepath.Dir(path)), "*")
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	if err := keep(filepath.Join(path, "not-a-directory"), set); err == nil {
		t.Error("kept under a file")
	}
}

// TestFollowUnkept: a set that can't be kept is in force all the same, and the node says so.
func TestFollowUnkept(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, "a", r.store(), func(o *PolicyFollowerOptions) { o.Path = filepath.Join(file, "kept") })
	put(t, r.store(), limits(5))
	n.poll()
	if n.limit() != 5 || n.Status().Unkept == "" {
		t.Errorf("limit %d, %+v", n.limit(), n.Status())
	}
}

// TestFollowRefusal: what a node can't take it refuses once, not at every poll; the others take it, and the next set is
// taken again.
func TestFollowRefusal(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	poor, rich := newNode(t, "poor", r.store()), newNode(t, "rich", r.store())
	poor.never = []uint64{6}
	all := func() { poor.poll(); rich.poll() }
	put(t, r.store(), limits(5))
	all()
	put(t, r.store(), limits(6))
	for range 10 {
		all()
	}
	got := poor.Status()
	if poor.limit() != 5 || rich.limit() != 6 || poor.applied != 2 || got.Refused != 2 || !strings.Contains(got.Reason, "no room for 6") || got.Set.Version != 1 {
		t.Errorf("limits %d and %d after %d attempts, %+v", poor.limit(), rich.limit(), poor.applied, got)
	}
	if n := strings.Count(poor.log.String(), "are refused"); n != 1 {
		t.Errorf("told %d times:\n%s", n, poor.log.String())
	}
	told, err := r.store().Nodes(t.Context())
	if err != nil || len(told) != 2 || told[0].Version != 1 || told[0].Refused != 2 || told[1].Version != 2 || told[1].Refused != 0 {
		t.Errorf("told %+v, %v", told, err)
	}
	// What is kept is what was in force.
	if kept, err := readKept(poor.o.Path, "weir"); err != nil || kept.Version != 1 {
		t.Errorf("kept %+v, %v", kept, err)
	}
	// It is tried again when the node may have changed, and then at ever longer intervals.
	poor.Retry()
	all()
	all()
	if poor.applied != 3 || poor.refused.wait != 2*firstRetry {
		t.Errorf("%d attempts, the next in %v", poor.applied, poor.refused.wait)
	}
	for range 20 {
		poor.refuse(poor.refused.head, 2, errors.New("still"), time.Now())
	}
	if poor.refused.wait != lastRetry {
		t.Errorf("at last the next in %v", poor.refused.wait)
	}
	poor.never = nil
	poor.Retry()
	all()
	if poor.limit() != 6 || poor.Status().Reason != "" {
		t.Errorf("limit %d, %+v", poor.limit(), poor.Status())
	}
	poor.never = []uint64{7}
	put(t, r.store(), limits(7))
	all()
	put(t, r.store(), limits(8))
	all()
	if poor.limit() != 8 || poor.Status().Reason != "" {
		t.Errorf("limit %d, %+v", poor.limit(), poor.Status())
	}
}

// TestFollowGarbage: whatever appears in Redis, the last good set stays, and the next good one is taken.
func TestFollowGarbage(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	s := r.store()
	n := newNode(t, "a", r.store())
	good := put(t, s, limits(1)).record
	n.poll()
	kinds := []func(){
		func() { r.must("DEL", s.set); r.must("SET", s.set, "x") },
		func() { r.must("DEL", s.set); r.must("LPUSH", s.set, "x") },
		func() { r.must("DEL", s.set); r.must("HSET", s.set, "version", "99") },
		func() { g := good; g.Version = "99"; store(t, r, s.set, g) },
		func() { g := good; g.Version, g.Encoding = "99", "lzma"; g.Sum = g.sum("weir"); store(t, r, s.set, g) },
		func() {
			g := good
			g.Version, g.Encoding, g.Body = "99", EncodingZstd, zstdBomb(t)
			g.Sum = g.sum("weir")
			store(t, r, s.set, g)
		},
	}
	for i, spoil := range kinds {
		spoil()
		for range 3 {
			n.poll()
		}
		got := n.Status()
		if n.limit() != uint64(i+1) || got.Garbage != uint64(i+1) || got.Reason == "" || got.Refused != 0 {
			t.Errorf("kind %d: limit %d, %+v", i, n.limit(), got)
		}
		set, err := s.Put(t.Context(), PolicyPut{Document: limits(uint64(i) + 2), Force: true, Above: n.InForce()})
		if err != nil {
			t.Fatal(err)
		}
		n.poll()
		if n.limit() != uint64(i+2) || n.Status().Reason != "" {
			t.Errorf("kind %d: limit %d after %+v, %+v", i, n.limit(), set, n.Status())
		}
	}
	// A body that is spoilt under the head that is in force is found at the next full look.
	r.must("HSET", s.set, "body", "{}")
	n.poll()
	n.full = time.Time{}
	n.poll()
	if got := n.Status(); got.Garbage != uint64(len(kinds))+1 || !strings.Contains(got.Reason, "checksum") {
		t.Errorf("spoilt body: %+v", got)
	}
}

// TestFollowNeverBack: an older set in Redis is replaced by a node's newer one; one that was begun later is taken, whatever
// its version.
func TestFollowNeverBack(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	s := r.store()
	one, two := newNode(t, "one", r.store()), newNode(t, "two", r.store())
	old := put(t, s, limits(1)).record
	one.poll()
	two.poll()
	put(t, s, limits(2))
	one.poll() // two is paused

	r.must("FLUSHALL")
	two.poll()
	if set, err := s.Get(t.Context()); err != nil || set.Version != 1 {
		t.Fatalf("two offers %+v, %v", set, err)
	}
	one.poll()
	if set, err := s.Get(t.Context()); err != nil || set.Version != 2 || one.limit() != 2 {
		t.Fatalf("one offers %+v, %v", set, err)
	}
	two.poll()
	if two.limit() != 2 {
		t.Errorf("two has %d", two.limit())
	}
	store(t, r, s.set, old) // as from a backup
	two.poll()
	one.poll()
	if one.limit() != 2 || two.limit() != 2 || two.Status().Older != 1 || one.applied != 2 || two.applied != 2 {
		t.Errorf("limits %d and %d, %+v", one.limit(), two.limit(), two.Status())
	}

	// A set of a count that was begun later.
	r.must("DEL", s.set)
	later, err := newPolicySet("weir", policyHead{begun: one.InForce().Begun + 1, version: 1}, limits(3), false)
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := s.swap(t.Context(), "", later); err != nil || !stored {
		t.Fatal(err)
	}
	one.poll()
	two.poll()
	if one.limit() != 3 || two.limit() != 3 {
		t.Errorf("limits %d and %d, want the later count's", one.limit(), two.limit())
	}
	// Two of the same version, by a failover that lost one: that of Redis.
	other, err := newPolicySet("weir", policyHead{begun: later.Begun, version: 1, by: "other"}, limits(4), false)
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := s.swap(t.Context(), later.record.head(), other); err != nil || !stored {
		t.Fatal(err)
	}
	one.poll()
	two.poll()
	if one.limit() != 4 || two.limit() != 4 {
		t.Errorf("limits %d and %d, want Redis'", one.limit(), two.limit())
	}
	// A set stored into a wiped Redis by who knows the last one goes on counting.
	r.must("FLUSHALL")
	set, err := s.Put(t.Context(), PolicyPut{Document: limits(5), Above: one.InForce()})
	if err != nil || set.Version != 2 || set.Begun != later.Begun {
		t.Errorf("after a wipe %+v, %v", set, err)
	}
	// And a cleared one is not taken back either.
	put(t, s, nil)
	one.poll()
	two.poll()
	r.must("FLUSHALL")
	one.poll()
	if set, err := s.Get(t.Context()); err != nil || !set.Cleared || set.Version != 3 || one.limit() != 0 || two.limit() != 0 {
		t.Errorf("cleared: %+v, %v; limits %d and %d", set, err, one.limit(), two.limit())
	}
}

// TestFollowPrefixes: clusters of two prefixes never see one another's sets.
func TestFollowPrefixes(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	a, b := r.store(), r.store(func(o *PolicyStoreOptions) { o.Prefix = "weir2" })
	one, two := newNode(t, "x", a).run(), newNode(t, "x", b).run()
	put(t, a, limits(1))
	put(t, b, limits(2))
	one.has(1)
	two.has(2)
	put(t, a, limits(3))
	one.has(3)
	if two.limit() != 2 || two.Status().Taken != 1 {
		t.Errorf("the other has %d, %+v", two.limit(), two.Status())
	}
}

// TestFollowTTL: nodes keep the set from expiring.
func TestFollowTTL(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	s := r.store()
	n := newNode(t, "a", s)
	put(t, s, limits(1))
	r.must("PEXPIRE", s.set, 60_000)
	n.poll()
	if ttl := r.PTTL(t.Context(), s.set).Val(); ttl < MinPolicyTTL-time.Hour {
		t.Errorf("expires in %v", ttl)
	}
	r.must("PERSIST", s.set)
	n.told = time.Time{}
	n.poll()
	if ttl := r.PTTL(t.Context(), s.set).Val(); ttl < MinPolicyTTL-time.Hour {
		t.Errorf("without an end: %v", ttl)
	}
}

// TestFollowEnds: whatever state Redis is in, following ends at once.
func TestFollowEnds(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	n := newNode(t, "a", r.store())
	put(t, r.store(), limits(1))
	n.run()
	n.has(1)
	redistest.Must(t, r.redis.Kill())
	begun := time.Now()
	n.stop()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("ended after %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Poll(ctx); err == nil || n.Status().Fault != "" && strings.Contains(n.Status().Fault, "canceled") {
		t.Errorf("a poll that is called off: %v, %+v", err, n.Status())
	}
}

// TestFollowFrozen: a Redis that hangs keeps nobody from ending for longer than a call may take.
func TestFollowFrozen(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	n := newNode(t, "a", r.store())
	put(t, r.store(), limits(1))
	n.run()
	n.has(1)
	redistest.Must(t, r.redis.Freeze())
	eventually(t, "a fault", func() error {
		if n.Status().Fault == "" {
			return errors.New("none")
		}
		return nil
	})
	begun := time.Now()
	n.stop()
	if took := time.Since(begun); took > callLimit+2*time.Second {
		t.Errorf("ended after %v", took)
	}
	if n.limit() != 1 {
		t.Errorf("limit %d", n.limit())
	}
}

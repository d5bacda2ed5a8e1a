package ratesync

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/policy"
)

// keyOn is a key whose bucket is on a master of a cluster.
func keyOn(t *testing.T, r *Redis, c *redistest.Cluster, master int) limiter.Key {
	t.Helper()
	for b := range 256 {
		id := ID{byte(b), 7}
		text, err := c.Masters[0].CLI("CLUSTER", "KEYSLOT", r.key(buckets, &id))
		if err != nil {
			t.Fatal(err)
		}
		if slot, err := strconv.Atoi(text); err == nil && slot*len(c.Masters)/16384 == master {
			return limiter.Key{Hash: uint64(b), ID: id}
		}
	}
	t.Fatalf("no shard is on master %d", master)
	return limiter.Key{}
}

// TestPartial kills one master of a cluster: what is on the others is decided, though it is asked for in the same call, and
// nothing says that the store is away. When it is back it is told what was spent without it.
func TestPartial(t *testing.T) {
	c := redistest.StartCluster(t, redistest.ClusterOptions{})
	r, err := Open(Options{URLs: c.URLs, Cluster: true, CommandTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := machine{time.Now()}
	n := startPeer(t, r, m, 3, func(o *SharerOptions) { o.CommandTimeout = 2 * time.Second })
	p := tokenPolicy(100, time.Hour, 100, policy.ConsistencyStrict)
	shared := n.share(t, p)
	dead, well := keyOn(t, r, c, 1), keyOn(t, r, c, 2)
	both := func() []limiter.Asking {
		all := []limiter.Asking{{Shared: shared, Key: dead, Hits: 1}, {Shared: shared, Key: well, Hits: 1}}
		n.Ask(t.Context(), all)
		return all
	}
	for i, a := range both() {
		if a.Answer != limiter.Decided || !a.Outcome.Admitted {
			t.Fatalf("%d: %+v", i, a)
		}
	}
	redistest.Must(t, c.Masters[1].Kill())
	for range 10 {
		all := both()
		if all[0].Answer != limiter.Away {
			t.Errorf("on the dead master: %+v", all[0])
		}
		if all[1].Answer != limiter.Decided || !all[1].Outcome.Admitted {
			t.Errorf("on a master that is well: %+v", all[1])
		}
	}
	limit := &Limit{p.Algorithm, p.Limit, p.Window, p.Burst}
	ops, replies := []Op{{Verb: Look, ID: dead.ID, Limit: limit, Hits: 1}, {Verb: Look, ID: well.ID, Limit: limit, Hits: 1}}, make([]Reply, 2)
	if err := r.Do(t.Context(), "n", ops, replies); err != nil {
		t.Errorf("a call to a cluster whose one master is dead: %v", err)
	}
	if replies[0].unanswered() == nil || replies[1].Err != nil || replies[1].Left != 89 {
		t.Errorf("%+v", replies)
	}

	shared.Spent(dead, m.instant(), 40)
	if err := n.Recover(t.Context()); err != nil {
		t.Errorf("one master that is dead keeps the store away: %v", err)
	}
	redistest.Must(t, c.Masters[1].Restart())
	look := func() (left uint64) {
		if r.Do(context.Background(), "n", ops[:1], replies) != nil {
			return 100
		}
		return replies[0].Left
	}
	deadline := time.Now().Add(20 * time.Second)
	for look() > 60 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // for a server to come back
	}
	if left := look(); left > 60 {
		t.Errorf("%d of 100 are left on the master that is back: it was not told of 40", left)
	}
	if f := n.Figures(); f.Broken != 0 || f.Forgotten != 0 {
		t.Errorf("%+v", f)
	}
}

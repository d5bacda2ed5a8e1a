package ratesync

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/policy"
)

func TestPoliciesAreStored(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	for _, compress := range []bool{false, true} {
		s := r.store(func(o *PolicyStoreOptions) { o.Compress, o.Prefix = compress, fmt.Sprint("weir-", compress) })
		if set, err := s.Get(t.Context()); set != nil || err != nil {
			t.Fatalf("of an empty Redis: %v, %v", set, err)
		}
		doc := limits(5)
		doc.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		stored := put(t, s, doc)
		got, err := s.Get(t.Context())
		if err != nil || !reflect.DeepEqual(got, stored) {
			t.Fatalf("got %+v, %v, want %+v", got, err, stored)
		}
		encoding := EncodingJSON
		if compress {
			encoding = EncodingZstd
		}
		if got.Version != 1 || got.By != "tester" || got.Encoding != encoding || time.Since(got.At).Abs() > time.Hour || !reflect.DeepEqual(got.Document, *doc) {
			t.Errorf("stored %+v", got)
		}
		if ttl := r.PTTL(t.Context(), s.set).Val(); ttl < MinPolicyTTL-time.Hour {
			t.Errorf("expires in %v, want %v", ttl, MinPolicyTTL)
		}
		// What one writes the other reads, compressed or not.
		other := r.store(func(o *PolicyStoreOptions) { o.Compress, o.Prefix = !compress, fmt.Sprint("weir-", compress) })
		if got := put(t, other, limits(6)); got.Version != 2 || got.Begun != stored.Begun || got.Encoding == encoding {
			t.Errorf("stored by the other %+v", got)
		}
		if got := put(t, s, nil); got.Version != 3 || !got.Cleared || got.Document.Policies != nil {
			t.Errorf("cleared: %+v", got)
		}
	}
}

// TestPoliciesConflict: of writers of one version one wins, and the others hear of whom.
func TestPoliciesConflict(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	s := r.store()
	for round := range uint64(4) {
		over, err := s.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const writers = 50
		won, lost := make(chan *PolicySet, writers), make(chan *PolicyConflictError, writers)
		var all sync.WaitGroup
		for i := range uint64(writers) {
			all.Go(func() {
				set, err := s.Put(t.Context(), PolicyPut{Document: limits(1000*round + i + 1), Over: over, By: fmt.Sprint("writer ", i)})
				conflict, is := errors.AsType[*PolicyConflictError](err)
				switch {
				case err == nil:
					won <- set
				case is:
					lost <- conflict
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(won) != 1 || len(lost) != writers-1 {
			t.Fatalf("%d won and %d lost, want 1 and %d", len(won), len(lost), writers-1)
		}
		winner := <-won
		got, err := s.Get(t.Context())
		if err != nil || !reflect.DeepEqual(got, winner) || got.Version != round+1 {
			t.Errorf("stored %+v, %v, want %+v", got, err, winner)
		}
		for range writers - 1 {
			text := (<-lost).Error()
			for _, want := range []string{winner.By + " stored version", fmt.Sprintf("--expect %d", round+1), "weir policy get --cluster"} {
				if !strings.Contains(text, want) {
					t.Fatalf("%q lacks %q", text, want)
				}
			}
		}
	}
	// By force everybody gets through, one after the other.
	var all sync.WaitGroup
	for i := range uint64(8) {
		all.Go(func() {
			if _, err := s.Put(t.Context(), PolicyPut{Document: limits(i + 1), Force: true}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got, err := s.Get(t.Context()); err != nil || got.Version != 12 {
		t.Errorf("after 8 forced: %+v, %v, want version 12", got, err)
	}
}

// TestPoliciesGarbage: whatever is in a field, it is no set, and is told so; and --force gets rid of it.
func TestPoliciesGarbage(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	s := r.store()
	good := put(t, s, limits(5)).record
	sign := func(change func(*policyRecord)) policyRecord {
		g := good
		change(&g)
		g.Sum = g.sum("weir")
		return g
	}
	bomb := sign(func(g *policyRecord) { g.Encoding, g.Body = EncodingZstd, zstdBomb(t) })
	if len(bomb.Body) > 1<<16 {
		t.Fatalf("a bomb of %d bytes", len(bomb.Body))
	}
	deep := []byte(strings.Repeat("[", 1<<20))
	for name, c := range map[string]struct {
		record policyRecord
		want   string
	}{
		"sum":              {policyRecord{good.Begun, good.Version, strings.Repeat("0", 64), good.Encoding, good.By, good.At, good.Body}, "checksum"},
		"body cut":         {policyRecord{good.Begun, good.Version, good.Sum, good.Encoding, good.By, good.At, good.Body[:9]}, "checksum"},
		"other version":    {policyRecord{good.Begun, "2", good.Sum, good.Encoding, good.By, good.At, good.Body}, "checksum"},
		"other encoding":   {policyRecord{good.Begun, good.Version, good.Sum, EncodingNone, good.By, good.At, good.Body}, "checksum"},
		"empty":            {policyRecord{}, "at is not a whole number"},
		"version 0":        {sign(func(g *policyRecord) { g.Version = "0" }), "versions begin at 1"},
		"version -1":       {sign(func(g *policyRecord) { g.Version = "-1" }), "version is not a whole number"},
		"version 1e3":      {sign(func(g *policyRecord) { g.Version = "1e3" }), "version is not a whole number"},
		"version 01":       {sign(func(g *policyRecord) { g.Version = "01" }), "version is not a whole number"},
		"version 2^53":     {sign(func(g *policyRecord) { g.Version = "9007199254740992" }), "version is not a whole number"},
		"begun":            {sign(func(g *policyRecord) { g.Begun = "nan" }), "begun is not a whole number"},
		"at":               {sign(func(g *policyRecord) { g.At = "" }), "at is not a whole number"},
		"by":               {sign(func(g *policyRecord) { g.By = "\x1b[2J" }), "who stored it"},
		"by long":          {sign(func(g *policyRecord) { g.By = strings.Repeat("x", 129) }), "by has 129 bytes"},
		"begun long":       {sign(func(g *policyRecord) { g.Begun = strings.Repeat("1", 17) }), "begun has 17 bytes"},
		"body long":        {sign(func(g *policyRecord) { g.Body = make([]byte, MaxPolicyBody+1) }), "body has 2097153 bytes"},
		"newer encoding":   {sign(func(g *policyRecord) { g.Encoding = "brotli" }), `encoding "brotli" is not known here`},
		"no zstd":          {sign(func(g *policyRecord) { g.Encoding = EncodingZstd }), "no zstd"},
		"zstd bomb":        {bomb, "unpacks to more than"},
		"cleared and body": {sign(func(g *policyRecord) { g.Encoding = EncodingNone }), "cleared, and has a body"},
		"no body":          {sign(func(g *policyRecord) { g.Body = nil }), "end of JSON"},
		"no JSON":          {sign(func(g *policyRecord) { g.Body = []byte("{") }), "end of JSON"},
		"deep JSON":        {sign(func(g *policyRecord) { g.Body = deep }), "depth"},
		"newer field":      {sign(func(g *policyRecord) { g.Body = []byte(`{"wishes":[]}`) }), "newer weir"},
		"bad policy":       {sign(func(g *policyRecord) { g.Body = []byte(`{"policies":[{"name":"A B"}]}`) }), "policies[0]"},
		"other prefix":     {func() policyRecord { g := good; g.Sum = g.sum("other"); return g }(), "checksum"},
	} {
		store(t, r, s.set, c.record)
		if set, err := s.Get(t.Context()); set != nil || !errors.Is(err, ErrPolicySet) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, %v, want an error with %q", name, set, err, c.want)
		}
		if _, err := s.Put(t.Context(), PolicyPut{Document: limits(6)}); !errors.Is(err, ErrPolicySet) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%s: stored over it: %v", name, err)
		}
		if _, err := s.Put(t.Context(), PolicyPut{Document: limits(6), Force: true}); err != nil {
			t.Errorf("%s: by force: %v", name, err)
		}
		if set, err := s.Get(t.Context()); err != nil || set.Document.Policies[0].Limit != 6 {
			t.Errorf("%s: after force %+v, %v", name, set, err)
		}
	}
	for _, kind := range [][]any{{"SET", s.set, "x"}, {"LPUSH", s.set, "x"}, {"ZADD", s.set, 1, "x"}, {"SADD", s.set, "x"}, {"XADD", s.set, "*", "a", "b"}} {
		r.must("DEL", s.set)
		r.must(kind...)
		if _, err := s.Get(t.Context()); !errors.Is(err, ErrPolicySet) || !strings.Contains(err.Error(), "it is a ") {
			t.Errorf("%v: %v", kind, err)
		}
		if _, err := s.Put(t.Context(), PolicyPut{Document: limits(7), Force: true}); err != nil {
			t.Errorf("%v by force: %v", kind, err)
		}
	}
}

// store writes a record as it is.
func store(t *testing.T, r *server, key string, g policyRecord) {
	t.Helper()
	r.must("DEL", key)
	r.must("HSET", key, "begun", g.Begun, "version", g.Version, "sum", g.Sum, "encoding", g.Encoding, "by", g.By, "at", g.At, "body", g.Body)
}

func zstdBomb(t *testing.T) []byte {
	t.Helper()
	text := make([]byte, MaxPolicyText+1)
	w, err := newZstd()
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(text, nil)
}

// TestPoliciesTooLarge: what the store would not take is refused before it is sent, with the mend.
func TestPoliciesTooLarge(t *testing.T) {
	t.Parallel()
	doc := &policy.Document{}
	for i := range 9000 {
		p := limits(uint64(i) + 1).Policies[0]
		p.Name = fmt.Sprint("policy-", i)
		doc.Policies = append(doc.Policies, p)
	}
	if text, err := json.Marshal(doc); err != nil || len(text) < MaxPolicyBody {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if _, err := newPolicySet("weir", policyHead{version: 1}, doc, false); err == nil || !strings.Contains(err.Error(), "compression: true") {
		t.Errorf("not compressed: %v", err)
	}
	set, err := newPolicySet("weir", policyHead{version: 1}, doc, true)
	if err != nil || len(set.Document.Policies) != 9000 {
		t.Errorf("compressed: %v", err)
	}
}

// TestPoliciesFaults: what Redis has against a call is told with its mend.
func TestPoliciesFaults(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	r.must("CONFIG", "SET", "requirepass", "other")
	if _, err := r.store().Get(t.Context()); err == nil || !strings.Contains(err.Error(), "give user and password") {
		t.Errorf("without a password: %v", err)
	}
	r = startServer(t)
	r.must("ACL", "SETUSER", "reader", "on", ">secret", "~other:*", "+@all")
	reader := NewPolicyStore(PolicyStoreOptions{Client: r.client("reader"), Prefix: "weir"})
	if _, err := reader.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "the ACL user needs") {
		t.Errorf("of a user without the keys: %v", err)
	}
	// The user that the mend describes is one that can do it all.
	r.must("ACL", "SETUSER", "weir", "on", ">secret", "~weir:*", "&weir:*", "+@hash", "+@scripting", "+@pubsub", "+type", "+time", "+del", "+pexpire", "+pttl", "+ping", "+hello", "+client")
	allowed := NewPolicyStore(PolicyStoreOptions{Client: r.client("weir"), Prefix: "weir"})
	n := newNode(t, "a", allowed).run()
	put(t, allowed, limits(4))
	n.has(4)
	if _, err := allowed.Nodes(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "a subscription", func() error {
		if !n.Status().Subscribed {
			return errors.New(n.log.String())
		}
		return nil
	})
	n.stop()

	s := r.store()
	put(t, s, limits(5))
	r.must("CONFIG", "SET", "maxmemory", "1")
	if _, err := s.Put(t.Context(), PolicyPut{Document: limits(6), Force: true}); err == nil || !strings.Contains(err.Error(), "raise its maxmemory") {
		t.Errorf("without memory: %v", err)
	}
	r.must("CONFIG", "SET", "maxmemory", "0")
	r.must("REPLICAOF", "127.0.0.1", "1")
	if _, err := s.Put(t.Context(), PolicyPut{Document: limits(6), Force: true}); err == nil || !strings.Contains(err.Error(), "name the master") {
		t.Errorf("at a replica: %v", err)
	}
	if set, err := s.Get(t.Context()); err != nil || set.Document.Policies[0].Limit != 5 {
		t.Errorf("a replica reads: %v, %v", set, err)
	}
	redistest.Must(t, r.redis.Kill())
	eventually(t, "the end of Redis", func() error {
		if _, err := s.Get(t.Context()); err == nil {
			return errors.New("answers")
		}
		return nil
	})
}

// TestPoliciesAnswerLost: a set of which the answer was lost is found to be there.
func TestPoliciesAnswerLost(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	s := r.store()
	set := put(t, s, limits(5))
	if !s.arrived(t.Context(), set) {
		t.Error("what is there has not arrived")
	}
	other, err := newPolicySet("weir", policyHead{begun: 1, version: 9}, limits(5), false)
	if err != nil || s.arrived(t.Context(), other) {
		t.Errorf("what is not there has arrived; %v", err)
	}
}

// TestPoliciesNodes: what nodes tell is bounded, and what is no node's is left out.
func TestPoliciesNodes(t *testing.T) {
	t.Parallel()
	r := startServer(t)
	s := r.store()
	if nodes, err := s.Nodes(t.Context()); err != nil || len(nodes) != 0 {
		t.Errorf("of an empty Redis: %v, %v", nodes, err)
	}
	now := time.Now().UnixMilli()
	for field, value := range map[string]string{
		"garbage": "x", "old": fmt.Sprint(now-2*nodeMemory.Milliseconds(), " {}"), "ahead": fmt.Sprint(now+2*nodeMemory.Milliseconds(), " {}"),
		"no-json": fmt.Sprint(now, " {"), "\x1b[2J": fmt.Sprint(now, " {}"), "long": strings.Repeat("x", maxTold+1),
	} {
		r.must("HSET", s.versions, field, value)
	}
	for i, name := range []string{"b", "a"} {
		if err := s.keepAlive(t.Context(), name, fmt.Sprintf(`{"version":%d,"refused":8,"reason":"a\nb"}`, i+1), i == 1); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := s.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || nodes[0].Node != "a" || nodes[0].Version != 2 || nodes[1].Version != 1 || nodes[1].Refused != 8 || nodes[1].Reason != "a b" {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	if left := r.HKeys(t.Context(), s.versions).Val(); len(left) != 4 {
		t.Errorf("left after tidying: %q, want a, b and the two of now", left)
	}
	var many []any
	for i := range maxNodes + 1 {
		many = append(many, fmt.Sprint("n", i), "x")
	}
	r.must(append([]any{"HSET", s.versions}, many...)...)
	if err := s.keepAlive(t.Context(), "a", "{}", false); err != nil {
		t.Error(err)
	}
	if n := r.HLen(t.Context(), s.versions).Val(); n != 1 {
		t.Errorf("%d nodes after nonsense, want 1", n)
	}
	r.must("DEL", s.versions)
	r.must("SET", s.versions, "x")
	if err := s.keepAlive(t.Context(), "a", "{}", true); err != nil {
		t.Error(err)
	}
}

// TestPoliciesInRedisCluster: the keys of a call are in one slot, and sets are announced on any node.
func TestPoliciesInRedisCluster(t *testing.T) {
	t.Parallel()
	r := startServer(t, "cluster-enabled yes", "cluster-port "+freePort(t))
	r.must("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	eventually(t, "the Redis Cluster", func() error { return r.Set(t.Context(), "x", "y", 0).Err() })
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:" + r.ConfigGet(t.Context(), "port").Val()["port"]}, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	s := NewPolicyStore(PolicyStoreOptions{Client: c, Prefix: "weir", Cluster: true})
	n := newNode(t, "a", s, func(o *PolicyFollowerOptions) { o.Every = time.Hour }).run()
	for limit := range uint64(3) {
		put(t, s, limits(limit+1))
		n.has(limit + 1)
	}
	eventually(t, "what the node tells", func() error {
		nodes, err := s.Nodes(t.Context())
		if err != nil || len(nodes) != 1 || nodes[0].Version != 3 {
			return fmt.Errorf("%+v, %v", nodes, err)
		}
		return nil
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

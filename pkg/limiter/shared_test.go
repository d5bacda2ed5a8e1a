package limiter

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// fakeStore keeps counts that never come back, and can be away.
type fakeStore struct {
	left  map[[16]byte]int64
	away  bool
	nodes int
	asked [][]Asking
	spent map[[16]byte]uint64
	limit int64
}

var _ Store = (*fakeStore)(nil)

func newFakeStore(limit int64) *fakeStore {
	return &fakeStore{left: map[[16]byte]int64{}, spent: map[[16]byte]uint64{}, limit: limit, nodes: 1}
}

func (s *fakeStore) Share(policy.Policy) (Shared, error) { return &fakeShared{s}, nil }
func (s *fakeStore) Nodes() int                          { return s.nodes }
func (s *fakeStore) Health() StoreHealth                 { return StoreHealth{Available: !s.away, Breaker: "closed"} }

func (s *fakeStore) Reset(_ context.Context, _ Shared, k Key) error {
	delete(s.left, k.ID)
	return nil
}

func (s *fakeStore) look(k Key, hits uint64) Outcome {
	used := s.left[k.ID]
	o := Outcome{Admitted: used+int64(hits) <= s.limit, Remaining: uint64(s.limit - used)}
	if !o.Admitted {
		o.RetryAfter = time.Minute
	}
	return o
}

func (s *fakeStore) Ask(_ context.Context, all []Asking) {
	s.asked = append(s.asked, append([]Asking(nil), all...))
	take := true
	for i := range all {
		a := &all[i]
		if a.Answer = Away; s.away {
			continue
		}
		a.Answer, a.Outcome = Decided, s.look(a.Key, a.Hits)
		take = take && (a.Peek || a.Shadow || a.Outcome.Admitted)
	}
	for i := range all {
		if a := &all[i]; take && !a.Peek && a.Answer == Decided && a.Outcome.Admitted {
			s.left[a.Key.ID] += int64(a.Hits)
			a.Outcome.Remaining -= a.Hits
		}
	}
}

type fakeShared struct{ s *fakeStore }

func (f *fakeShared) Take(Key, Instant, uint64) (Outcome, Answer) { return Outcome{}, f.answer() }
func (f *fakeShared) Peek(Key, Instant, uint64) (Outcome, Answer) { return Outcome{}, f.answer() }
func (f *fakeShared) Releasing() bool                             { return false }
func (f *fakeShared) Spent(k Key, _ Instant, hits uint64)         { f.s.spent[k.ID] += hits }
func (f *fakeShared) Refund(k Key, _ Instant, _ Outcome, hits uint64) {
	f.s.left[k.ID] -= int64(hits)
}

func (f *fakeShared) answer() Answer {
	if f.s.away {
		return Away
	}
	return Ask
}

func shared(name string, scope policy.Scope, limit uint64, with func(*policy.Policy)) policy.Policy {
	p := policy.Policy{
		Name: name, Scope: scope, Limit: limit, Window: time.Hour, Layer: policy.LayerL7, Consistency: policy.ConsistencyStrict,
	}
	if with != nil {
		with(&p)
	}
	return p.WithDefaults()
}

func withStore(t *testing.T, s *fakeStore, policies ...policy.Policy) *Limiter {
	t.Helper()
	l, err := New(Options{Entries: MinEntries, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Replace(policy.Document{Policies: policies}); err != nil {
		t.Fatal(err)
	}
	return l
}

func ask(t *testing.T, l *Limiter, user string, hits uint64) Result {
	t.Helper()
	r, err := l.Check(context.Background(), Query{Request: &RequestContext{UserID: user}, Hits: hits})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *fakeStore) used() (n int64) {
	for _, used := range s.left {
		n += used
	}
	return n
}

// TestSharedAndOwn holds that policies of both kinds are charged together or not at all.
func TestSharedAndOwn(t *testing.T) {
	s := newFakeStore(5)
	l := withStore(t, s,
		shared("cluster", policy.ScopePerUser, 5, nil),
		shared("node", policy.ScopeGlobal, 7, func(p *policy.Policy) { p.Consistency = policy.ConsistencyLocal }))
	for i := range 5 {
		if r := ask(t, l, "alice", 1); !r.Allowed {
			t.Fatalf("request %d: %+v", i, r)
		}
	}
	if r := ask(t, l, "alice", 1); r.Allowed || r.Policy != "cluster" || r.RetryAfter != time.Minute {
		t.Errorf("the cluster's limit: %+v", r)
	}
	if b, _ := l.Bucket("node", GlobalKey); b.Remaining != 2 {
		t.Errorf("the node's own has %d left, want 2: what the cluster denied is to cost nothing", b.Remaining)
	}
	ask(t, l, "bob", 2)
	asked := len(s.asked)
	if r := ask(t, l, "carol", 1); r.Allowed || r.Policy != "node" {
		t.Errorf("the node's limit: %+v", r)
	}
	if len(s.asked) != asked || s.used() != 7 {
		t.Errorf("the store was asked %d times more, and has %d used: what the node denies need not be asked", len(s.asked)-asked, s.used())
	}
	st := l.Stats(context.Background())
	if st.RedisRequests != 8 || st.MemoryRequests != 0 || st.FallbackRequests != 0 || st.AllowedRequests != 6 {
		t.Errorf("%+v", st)
	}
}

// TestSharedOneQuestion holds that all policies of a request are asked in one question, and one in shadow keeps none from taking.
func TestSharedOneQuestion(t *testing.T) {
	s := newFakeStore(2)
	l := withStore(t, s,
		shared("a", policy.ScopePerUser, 2, nil), shared("b", policy.ScopeGlobal, 2, nil),
		shared("dark", policy.ScopeGlobal, 2, func(p *policy.Policy) { p.Mode = policy.ModeShadow }))
	ask(t, l, "alice", 1)
	ask(t, l, "bob", 1)
	if len(s.asked) != 2 || len(s.asked[0]) != 3 {
		t.Fatalf("%d questions", len(s.asked))
	}
	r := ask(t, l, "carol", 1)
	if r.Allowed || r.Policy != "b" || r.Shadow != "dark" || s.used() != 6 {
		t.Errorf("%+v, %d used", r, s.used())
	}
	if r := ask(t, l, "carol", 0); r.Allowed || s.used() != 6 {
		t.Errorf("peek: %+v, %d used", r, s.used())
	}
}

// TestAway holds each on_store_failure to what it says.
func TestAway(t *testing.T) {
	for _, c := range []struct {
		on      policy.StoreFailure
		allowed int
		spent   uint64
	}{
		{policy.StoreFailureLocal, 12, 12},
		{policy.StoreFailureShare, 3, 3},
		{policy.StoreFailureOpen, 20, 20},
		{policy.StoreFailureClosed, 0, 0},
	} {
		t.Run(string(c.on), func(t *testing.T) {
			s := newFakeStore(12)
			s.away, s.nodes = true, 4
			l := withStore(t, s, shared("cluster", policy.ScopePerUser, 12, func(p *policy.Policy) { p.OnStoreFailure = c.on }))
			allowed := 0
			for range 20 {
				if ask(t, l, "alice", 1).Allowed {
					allowed++
				}
			}
			var spent uint64
			for _, n := range s.spent {
				spent += n
			}
			if allowed != c.allowed || c.on != policy.StoreFailureOpen && spent != c.spent {
				t.Errorf("%d allowed and %d noted, want %d and %d", allowed, spent, c.allowed, c.spent)
			}
			st := l.Stats(context.Background())
			if st.FallbackRequests != 20 || st.RedisRequests != 0 || int(st.AllowedRequests) != c.allowed {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestPortionOfSlowLimits holds that the share of a limit below the number of nodes is not rounded to nothing, or up.
func TestPortionOfSlowLimits(t *testing.T) {
	s := newFakeStore(2)
	s.away, s.nodes = true, 8
	l := withStore(t, s, shared("slow", policy.ScopePerUser, 2, func(p *policy.Policy) { p.OnStoreFailure = policy.StoreFailureShare }))
	if r := ask(t, l, "alice", 1); !r.Allowed {
		t.Errorf("first: %+v", r)
	}
	if r := ask(t, l, "alice", 1); r.Allowed || r.RetryAfter < 3*time.Hour || r.RetryAfter > 5*time.Hour {
		t.Errorf("2 an hour by 8 nodes is one in 4 hours each: %+v", r)
	}
}

// TestSharedRefund gives back to whom it was taken from.
func TestSharedRefund(t *testing.T) {
	s := newFakeStore(9)
	l := withStore(t, s, shared("cluster", policy.ScopePerUser, 9, nil))
	check := func() *Result {
		r, err := l.Check(context.Background(), Query{Request: &RequestContext{UserID: "alice"}, Hits: 4, Refundable: true})
		if err != nil || !r.Allowed {
			t.Fatalf("%+v %v", r, err)
		}
		return &r
	}
	first := check()
	s.away = true
	second := check()
	s.away = false
	if l.Refund(first); s.used() != 0 {
		t.Errorf("%d used after the refund", s.used())
	}
	if l.Refund(second); s.used() != 0 {
		t.Errorf("%d used: what stood in for the store took it, not the store", s.used())
	}
}

// TestIdentitiesOfNodes holds that two limiters name buckets alike, and different buckets differently.
func TestIdentitiesOfNodes(t *testing.T) {
	s := newFakeStore(1 << 40)
	policies := []policy.Policy{
		shared("address", policy.ScopePerIP, 9, nil), shared("user", policy.ScopePerUser, 9, nil), shared("key", policy.ScopePerAPIKey, 9, nil),
		shared("endpoint", policy.ScopePerEndpoint, 9, nil), shared("all", policy.ScopeGlobal, 9, nil),
		shared("custom", policy.ScopeCustom, 9, func(p *policy.Policy) { p.Key = "{user}:{metadata.tenant}" }),
	}
	request := func(i int) *RequestContext {
		return &RequestContext{
			ClientIP: addr(fmt.Sprintf("2001:db8:0:%x::7", i)), UserID: fmt.Sprint("u", i), APIKey: fmt.Sprint("k", i), Endpoint: fmt.Sprint("/", i),
			Metadata: map[string]string{"tenant": "t"},
		}
	}
	for range 2 {
		l := withStore(t, s, policies...)
		for i := range 10 {
			if _, err := l.Check(context.Background(), Query{Request: request(i), Hits: 1}); err != nil {
				t.Fatal(err)
			}
		}
		for _, limit := range []uint64{5, 6} {
			if _, err := l.CheckRateLimit(context.Background(), "u1", limit, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Five policies have a bucket for each of ten, one has one for all, and there are two limits of queries' own.
	if len(s.left) != 5*10+1+2 {
		t.Errorf("%d buckets, want %d", len(s.left), 5*10+1+2)
	}
	for id, used := range s.left {
		if used != 2 && used != 20 {
			t.Errorf("%x was used %d times, by two nodes", id, used)
		}
	}
}

// TestAwayCounts holds that what on_store_failure admits is counted as allowed, and what it granted in nobody's bucket is given
// back to none.
func TestAwayCounts(t *testing.T) {
	for _, on := range []policy.StoreFailure{policy.StoreFailureLocal, policy.StoreFailureShare, policy.StoreFailureOpen} {
		s := newFakeStore(12)
		s.away = true
		l := withStore(t, s, shared("cluster", policy.ScopePerUser, 12, func(p *policy.Policy) { p.OnStoreFailure = on }))
		r, err := l.Check(context.Background(), Query{Request: &RequestContext{UserID: "alice"}, Hits: 3, Refundable: true})
		if err != nil || !r.Allowed {
			t.Fatalf("%s: %+v %v", on, r, err)
		}
		if st := l.Stats(context.Background()).Policies[0]; st.Allowed != 1 || st.Refunded != 0 {
			t.Errorf("%s: %+v", on, st)
		}
		if on == policy.StoreFailureOpen && (r.lease.first.rule != nil || len(s.spent) != 0) {
			t.Errorf("%s holds %+v, and noted %v", on, r.lease, s.spent)
		}
	}
}

// TestOwnLimitsAway holds that limits which come with queries, and rules, do what policies do that say nothing of it.
func TestOwnLimitsAway(t *testing.T) {
	s := newFakeStore(12)
	s.away = true
	l, err := New(Options{Entries: MinEntries, Store: s, OnStoreFailure: policy.StoreFailureClosed})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := l.CheckRateLimit(context.Background(), "k", 5, time.Hour); err != nil || r.Allowed {
		t.Errorf("a query's own limit: %+v %v", r, err)
	}
	rule, err := l.NewRule(policy.Policy{Name: "r", Limit: 5, Window: time.Hour, Algorithm: policy.AlgorithmTokenBucket})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := l.Check(context.Background(), Query{Rule: rule, Key: "k", Hits: 1}); err != nil || r.Allowed {
		t.Errorf("a rule: %+v %v", r, err)
	}
	if err := l.Replace(policy.Document{Policies: []policy.Policy{shared("p", policy.ScopePerUser, 5, nil)}}); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, l, "alice", 1); r.Allowed {
		t.Errorf("a policy: %+v", r)
	}
}

// TestRuleOfOwnAlgorithm holds that a rule by an algorithm of the program's own is counted here, as no store knows it.
func TestRuleOfOwnAlgorithm(t *testing.T) {
	s := newFakeStore(1)
	l, err := New(Options{Entries: MinEntries, Store: s, Algorithms: map[policy.Algorithm]NewAlgorithm{policy.AlgorithmTokenBucket: newTokenBucket}})
	if err != nil {
		t.Fatal(err)
	}
	rule, err := l.NewRule(policy.Policy{Name: "r", Limit: 5, Window: time.Hour, Algorithm: policy.AlgorithmTokenBucket})
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Check(context.Background(), Query{Rule: rule, Key: "k", Hits: 3})
	if err != nil || !r.Allowed || r.Remaining != 2 || len(s.asked) != 0 {
		t.Errorf("%+v %v, and the store was asked %d times", r, err, len(s.asked))
	}
}

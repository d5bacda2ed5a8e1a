package limiter

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

func perUser(name string, limit uint64) policy.Policy {
	return policy.Policy{Name: name, Scope: policy.ScopePerUser, Limit: limit, Window: time.Hour}
}

// TestChangesAreWholeOrNone: what fails leaves everything as it was.
func TestChangesAreWholeOrNone(t *testing.T) {
	refuse := policy.Algorithm("refuse")
	l := newLimiterOf(t, Options{Entries: MinEntries, Clock: newFakeClock().now, Algorithms: map[policy.Algorithm]NewAlgorithm{
		refuse: func(policy.Policy) (Algorithm, error) { return nil, errors.New("it does not suit me") },
	}}, perUser("a", 10), perUser("b", 10))
	ctx, before := t.Context(), l.Document()
	bad := perUser("bad", 0)
	own := l7(perUser("own", 10))[0]
	own.Algorithm = refuse
	unknownOne := own
	unknownOne.Algorithm = "nobody knows"
	strict, open := l7(perUser("strict", 10))[0], l7(perUser("open", 10))[0]
	strict.Consistency, open.OnStoreFailure = policy.ConsistencyStrict, policy.StoreFailureOpen
	ownStrict := own
	ownStrict.Consistency = policy.ConsistencyStrict
	cases := []struct {
		change func() error
		is     error // or an *InvalidError
		phrase string
	}{
		{func() error { return l.AddPolicy(ctx, perUser("a", 5)) }, ErrPolicyExists, `add "a": there is a policy of this name (update it`},
		{func() error { return l.UpdatePolicy(ctx, perUser("c", 5)) }, ErrUnknownPolicy, `update "c": no such policy`},
		{func() error { return l.RemovePolicy(ctx, "c") }, ErrUnknownPolicy, `remove "c": no such policy`},
		{func() error { return l.AddPolicy(ctx, bad) }, nil, "policies[2].limit: must be at least 1"},
		{func() error { return l.AddPolicy(ctx, own) }, nil, "policies[2].algorithm: algorithm refuse: it does not suit me;"},
		{func() error { return l.AddPolicy(ctx, unknownOne) }, nil, "policies[2].algorithm: unknown value"},
		{func() error { return l.AddPolicy(ctx, strict) }, nil, "policies[2].consistency: consistency strict counts in Redis, and there is none"},
		{func() error { return l.AddPolicy(ctx, open) }, nil, "policies[2].on_store_failure: on_store_failure open is for when Redis is away"},
		{func() error { return l.AddPolicy(ctx, ownStrict) }, nil, "policies[2].consistency: algorithm refuse is this program's own, and has no strict"},
		{func() error { return l.Replace(policy.Document{Policies: append(l7(perUser("z", 1)), own)}) }, nil, "policies[1].algorithm"},
		{func() error { return l.Replace(policy.Document{Policies: l7(perUser("z", 1), perUser("z", 1))}) }, nil, "already taken"},
		{func() error { return l.Replace(policy.Document{Policies: []policy.Policy{{Name: "z"}}}) }, nil, "policies[0]"},
		{func() error { return l.Try(policy.Document{Policies: l7(bad)}) }, nil, "policies[0].limit"},
		{func() error { return l.Try(policy.Document{Policies: []policy.Policy{own}}) }, nil, "policies[0].algorithm"},
	}
	for i, c := range cases {
		err := c.change()
		var invalid *InvalidError
		if err == nil || !strings.Contains(err.Error(), c.phrase) || c.is != nil && !errors.Is(err, c.is) || c.is == nil && !errors.As(err, &invalid) {
			t.Errorf("%d: %v, want %s", i, err, c.phrase)
		}
		if !reflect.DeepEqual(l.Document(), before) || len(l.set.Load().rules) != 2 {
			t.Fatalf("%d: changed %+v", i, l.Document())
		}
	}
	if err := l.Try(policy.Document{Policies: l7(perUser("z", 1))}); err != nil || len(l.Document().Policies) != 2 {
		t.Errorf("Try: %v, %+v", err, l.Document())
	}
}

// TestConsistencyIsFilledIn: without a store every policy is local, whichever way it came.
func TestConsistencyIsFilledIn(t *testing.T) {
	l := newLimiter(t, newFakeClock())
	if err := l.Replace(policy.Document{Policies: l7(perUser("a", 10))}); err != nil {
		t.Fatal(err)
	}
	if err := l.AddPolicy(t.Context(), perUser("b", 10)); err != nil {
		t.Fatal(err)
	}
	rule, err := l.NewRule(perUser("c", 10))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(l.Document().Policies, rule.policy, l.set.Load().rules[0].policy) {
		if p.Consistency != policy.ConsistencyLocal || p.OnStoreFailure != policy.StoreFailureLocal {
			t.Errorf("%s: %q, %q", p.Name, p.Consistency, p.OnStoreFailure)
		}
	}
}

// TestChangesKeepWhatStays: buckets and counters outlive a change, and documents that were handed out are
// not changed under their readers.
func TestChangesKeepWhatStays(t *testing.T) {
	l := newLimiter(t, newFakeClock(), perUser("a", 10), perUser("b", 10))
	ctx, request := t.Context(), &RequestContext{UserID: "u"}
	ask := func(want uint64) {
		t.Helper()
		r, err := l.CheckRequest(ctx, "", request)
		if err != nil || !r.Allowed || r.Remaining != want {
			t.Fatalf("%+v, %v, want %d left", r, err, want)
		}
	}
	ask(9)
	handed := l.Document()
	for _, change := range []func() error{
		func() error { return l.AddPolicy(ctx, perUser("c", 100)) },
		func() error { p := perUser("a", 10); p.Priority = 9; return l.UpdatePolicy(ctx, p) },
		func() error { return l.RemovePolicy(ctx, "b") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	if len(handed.Policies) != 2 || handed.Policies[1].Name != "b" || handed.Policies[0].Priority == 9 {
		t.Errorf("a document was changed: %+v", handed)
	}
	ask(8)
	stats := l.Stats(ctx)
	if stats.ActivePolicies != 2 || stats.Policies[0].Policy != "a" || stats.Policies[0].Allowed != 2 || stats.Policies[1].Allowed != 1 {
		t.Errorf("%+v", stats.Policies)
	}
	// Half of the limit: what was taken stays taken.
	if err := l.UpdatePolicy(ctx, perUser("a", 5)); err != nil {
		t.Fatal(err)
	}
	if b, err := l.Bucket("a", "u"); err != nil || b.Burst != 5 || b.Remaining != 4 {
		t.Errorf("%+v, %v", b, err) // 2 of 10 an hour are 12 minutes, in which 1 of 5 an hour comes back
	}
	if _, err := l.Bucket("b", "u"); !errors.Is(err, ErrUnknownPolicy) {
		t.Error(err)
	}
}

// TestTenThousandPolicies: they are found by what they ask for, and each decides for itself.
func TestTenThousandPolicies(t *testing.T) {
	l := newLimiter(t, newFakeClock(), manyPolicies(policy.MaxPolicies)...)
	for i := range policy.MaxPolicies {
		v := view{request: &RequestContext{UserID: fmt.Sprint("u", i), Metadata: map[string]string{"tenant": fmt.Sprint("t", i)}, UserRole: fmt.Sprint("r", i)},
			endpoint: fmt.Sprintf("/e%d/x", i)}
		var few [4]charge
		found := l.set.Load().find(few[:0], &v)
		if len(found) != 1 || found[0].rule.policy.Name != fmt.Sprint("p", i) {
			t.Fatalf("%d: %+v", i, found)
		}
	}
	if err := l.Replace(policy.Document{Policies: l7(append(manyPolicies(policy.MaxPolicies), perUser("one-more", 1))...)}); err == nil {
		t.Error("one more was taken")
	}
}

// manyPolicies are of single users, endpoints, roles and tenants.
func manyPolicies(n int) []policy.Policy {
	out := make([]policy.Policy, n)
	for i := range out {
		p := perUser(fmt.Sprint("p", i), 1_000_000)
		switch i % 4 {
		case 0:
			p.Match.Users = []string{fmt.Sprint("u", i)}
		case 1:
			p.Match.Endpoints = []string{fmt.Sprintf("/e%d/x", i), fmt.Sprintf("/e%d/y/*", i)}
		case 2:
			p.Match.Metadata = map[string]string{"tenant": fmt.Sprint("t", i)}
		case 3:
			p.Match.Roles = []string{fmt.Sprint("r", i)}
		}
		out[i] = p
	}
	return out
}

// TestBucketsByKey: a bucket is found by what its scope spells, and reset.
func TestBucketsByKey(t *testing.T) {
	policies := []policy.Policy{
		{Name: "ip", Scope: policy.ScopePerIP, IPv4Prefix: 24}, {Name: "user", Scope: policy.ScopePerUser}, {Name: "key", Scope: policy.ScopePerAPIKey},
		{Name: "path", Scope: policy.ScopePerEndpoint}, {Name: "pattern", Scope: policy.ScopePerEndpoint, Match: policy.Match{Endpoints: []string{"/b", "/a/*"}}},
		{Name: "all", Scope: policy.ScopeGlobal}, {Name: "custom", Scope: policy.ScopeCustom, Key: "{user}:{metadata.tenant}:{ip}"},
		{Name: "one", Scope: policy.ScopeCustom, Key: "t/{metadata.tenant}"},
	}
	for i := range policies {
		policies[i].Limit, policies[i].Window = 10, time.Hour
	}
	l := newLimiter(t, newFakeClock(), policies...)
	request := &RequestContext{ClientIP: addr("10.0.0.7"), UserID: "u", APIKey: "d", Endpoint: "/a/./b", Metadata: map[string]string{"tenant": "acme"}}
	for range 3 {
		if r, err := l.CheckRequest(t.Context(), "", request); err != nil || !r.Allowed {
			t.Fatal(r, err)
		}
	}
	for _, c := range []struct{ policy, key string }{
		{"ip", "10.0.0.7"}, {"ip", "10.0.0.0/24"}, {"ip", "::ffff:10.0.0.9"}, {"user", "u"}, {"key", "d"}, {"path", "/a/b"}, {"pattern", "/a/*"}, {"pattern", "/a/x"},
		{"all", "-"}, {"custom", "u\nacme\n10.0.0.7"}, {"custom", "u:acme:10.0.0.7"}, {"one", "acme"}, {"one", "t/acme"},
	} {
		b, err := l.Bucket(c.policy, c.key)
		if err != nil || b.Remaining != 7 || b.Burst != 10 || b.Policy != c.policy || b.Key != c.key || b.ResetAfter != 18*time.Minute {
			t.Errorf("%s %q: %+v, %v", c.policy, c.key, b, err)
		}
	}
	for _, c := range []struct{ policy, key, phrase string }{
		{"user", "", "must not be empty"}, {"all", "x", "one bucket for all"}, {"pattern", "/c", "is no endpoint of the policy"},
		{"custom", "u", `is no key of "{user}:{metadata.tenant}:{ip}"`}, {"custom", "u\nacme", "has 2 values for the 3 fields"},
		{"custom", "a:b:c:10.0.0.7", "in more than one way"}, {"custom", "u\nacme\nnone", "must not be empty"}, {"nobody", "u", "no such policy"},
	} {
		if b, err := l.Bucket(c.policy, c.key); err == nil || !strings.Contains(err.Error(), c.phrase) {
			t.Errorf("%s %q: %+v, %v", c.policy, c.key, b, err)
		}
		if err := l.ResetBucket(c.policy, c.key); err == nil {
			t.Errorf("%s %q was reset", c.policy, c.key)
		}
	}
	if err := l.ResetBucket("user", "u"); err != nil {
		t.Fatal(err)
	}
	if b, _ := l.Bucket("user", "u"); b.Remaining != 10 {
		t.Errorf("%+v", b)
	}
	if b, _ := l.Bucket("key", "d"); b.Remaining != 7 {
		t.Errorf("%+v", b)
	}
}

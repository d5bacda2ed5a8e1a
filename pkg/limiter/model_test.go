package limiter

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestFindsWhatClassifyRequestFinds: the same policies in the same order, and the same bucket if and only if
// the key is the same.
func TestFindsWhatClassifyRequestFinds(t *testing.T) {
	most, lists := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		l := newLimiter(t, newFakeClock())
		if err := l.Replace(doc); err != nil {
			t.Fatal(err)
		}
		names := map[string]string{} // of buckets, by policy and key
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			key, r := drawRequest(t)
			want := policy.ClassifyRequest(doc.Policies, doc.Lists(), key, r)
			var result Result
			got, err := l.set.Load().charges(nil, &Query{Key: key, Request: &r}, 0, &result)
			if err != nil {
				t.Fatal(err)
			}
			if result.List != want.List {
				t.Fatalf("list %s, want %s", result.List, want.List)
			}
			if result.List != policy.ListNone {
				lists++
			}
			most = max(most, len(got))
			for _, j := range want.Policies {
				if j.Effect != policy.EffectCharge {
					continue
				}
				if len(got) == 0 || got[0].rule.policy.Name != j.Policy.Name {
					t.Fatalf("key %q, %+v: %s is missing from %v, of %+v", key, r, j.Policy.Name, names, want)
				}
				bucket := j.Policy.Name + " " + j.Key
				hash := fmt.Sprintf("%s %x", j.Policy.Name, got[0].hash)
				if other, ok := names[bucket]; ok && other != hash {
					t.Fatalf("%s has another bucket than before", bucket)
				}
				if other, ok := names[hash]; ok && other != bucket {
					t.Fatalf("%s has the bucket of %s", bucket, other)
				}
				names[bucket], names[hash] = hash, bucket
				got = got[1:]
			}
			if len(got) > 0 {
				t.Fatalf("key %q, %+v: %s applies, and should not", key, r, got[0].rule.policy.Name)
			}
		}
	})
	t.Logf("up to %d policies at once; %d requests were decided by lists", most, lists)
}

// TestAddressesHowever: no spelling of an address slips past a list or has a bucket of its own.
func TestAddressesHowever(t *testing.T) {
	p := policy.Policy{Name: "p", Scope: policy.ScopePerIP, Limit: 10, Window: time.Second}
	custom := policy.Policy{Name: "c", Scope: policy.ScopeCustom, Key: "{ip}", Limit: 10, Window: time.Second}
	l := newLimiter(t, newFakeClock())
	doc := policy.Document{Policies: l7(p, custom), Deny: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}}
	if err := l.Replace(doc); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"10.1.2.3", "::ffff:10.1.2.3", "fe80::1", "fe80::1%eth0"} {
		r, err := l.CheckRequest(t.Context(), "", &RequestContext{ClientIP: netip.MustParseAddr(text)})
		if err != nil || r.Allowed || r.List != policy.ListDeny || r.RetryAfter != Never {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
	for i, text := range []string{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"} {
		r, err := l.CheckRequest(t.Context(), "", &RequestContext{ClientIP: netip.MustParseAddr(text)})
		if err != nil || r.Remaining != uint64(9-i) {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
}

// TestListsAmongSeveral: one client of the deny list denies all that is asked with it, and one of the allow
// list costs nothing.
func TestListsAmongSeveral(t *testing.T) {
	l := newLimiter(t, newFakeClock())
	doc := policy.Document{
		Policies: l7(policy.Policy{Name: "p", Scope: policy.ScopeGlobal, Limit: 10, Window: time.Second}),
		Allow:    []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, Deny: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}
	if err := l.Replace(doc); err != nil {
		t.Fatal(err)
	}
	ask := func(left uint64, want []bool, addresses ...string) {
		t.Helper()
		var queries []Query
		for _, a := range addresses {
			queries = append(queries, Query{Request: &RequestContext{ClientIP: addr(a)}, Hits: 1})
		}
		results := make([]Result, len(queries))
		if _, err := l.CheckAll(t.Context(), queries, results); err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Allowed != want[i] {
				t.Errorf("%s: %+v", addresses[i], r)
			}
		}
		if got := l.left(t, "p"); got != left {
			t.Errorf("%d left after %v", got, addresses)
		}
	}
	ask(9, []bool{true, true}, "10.0.0.1", "192.0.2.1")
	ask(9, []bool{true, false, true}, "192.0.2.1", "10.0.0.2", "10.0.0.1")
	ask(9, []bool{false, true}, "10.0.0.2", "192.0.2.1")
	ask(7, []bool{true, true}, "192.0.2.1", "192.0.2.2")
	if s := l.Counters(); s.TotalRequests != 4 || s.AllowedRequests != 2 || s.Policies[0].Refunded != 2 {
		t.Errorf("%+v", s)
	}
}

// model is a limiter that is slow and plain.
type model struct {
	doc   policy.Document
	debts map[string]time.Duration // when each bucket is full again
}

func (m *model) ask(p policy.Policy, bucket string, now time.Duration, hits uint64) (full time.Duration, ok bool) {
	token := p.Window / time.Duration(p.Limit)
	full = max(m.debts[bucket], now) + time.Duration(hits)*token
	return full, full-now <= time.Duration(p.Burst)*token
}

// check says whether a request passes, who denies first, and which policy in shadow would have.
func (m *model) check(key string, r RequestContext, now time.Duration, hits uint64) (allowed bool, deniers map[string]bool, shadow string) {
	allowed, deniers = true, map[string]bool{}
	after := map[string]time.Duration{}
	c := policy.ClassifyRequest(m.doc.Policies, m.doc.Lists(), key, r)
	for _, j := range c.Policies {
		if j.Effect != policy.EffectCharge {
			continue
		}
		bucket := j.Policy.Name + " " + j.Key
		full, ok := m.ask(j.Policy, bucket, now, hits)
		switch {
		case ok:
			after[bucket] = full
		case j.Policy.Mode == policy.ModeEnforce:
			allowed, deniers[j.Policy.Name] = false, true
		case shadow == "":
			shadow = j.Policy.Name
		}
	}
	if c.List != policy.ListNone {
		return c.List == policy.ListAllow, deniers, ""
	}
	if allowed {
		for bucket, full := range after {
			m.debts[bucket] = full
		}
	}
	return allowed, deniers, shadow
}

// TestAllOrNothing: against the model, request by request and bucket by bucket.
func TestAllOrNothing(t *testing.T) {
	denied := 0
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		for i := range doc.Policies {
			p := &doc.Policies[i]
			p.Window = time.Duration(p.Limit) * 100 * time.Millisecond // whole nanoseconds a token
		}
		c := newFakeClock()
		l := newLimiter(t, c)
		if err := l.Replace(doc); err != nil {
			t.Fatal(err)
		}
		m := model{doc, map[string]time.Duration{}}
		for range rapid.IntRange(1, 40).Draw(t, "requests") {
			c.advance(time.Duration(rapid.IntRange(0, 3).Draw(t, "gap")) * 25 * time.Millisecond)
			key, r := drawRequest(t)
			hits := rapid.SampledFrom([]uint64{1, 1, 2, 5}).Draw(t, "hits")
			got, err := l.Check(t.Context(), Query{Key: key, Request: &r, Hits: hits})
			if err != nil {
				t.Fatal(err)
			}
			allowed, deniers, shadow := m.check(key, r, c.up, hits)
			if got.Allowed != allowed || got.Shadow != shadow {
				t.Fatalf("%d hits of %q %+v: %+v, want %v by %v, shadow %q", hits, key, r, got, allowed, deniers, shadow)
			}
			if !allowed && got.List == policy.ListNone {
				if denied++; !deniers[got.Policy] {
					t.Fatalf("%s denied, want one of %v", got.Policy, deniers)
				}
			}
		}
	})
	t.Logf("%d requests were denied", denied)
}

// TestMostRestrictive: of denials the longest wait is told, of admissions what has least left.
func TestMostRestrictive(t *testing.T) {
	c := newFakeClock()
	l := newLimiter(t, c,
		policy.Policy{Name: "wide", Scope: policy.ScopeGlobal, Limit: 100, Window: time.Second, Priority: 9},
		policy.Policy{Name: "slow", Scope: policy.ScopeGlobal, Limit: 3, Window: time.Hour},
		policy.Policy{Name: "fast", Scope: policy.ScopeGlobal, Limit: 3, Window: time.Minute, Headers: map[string]string{"x-a": "b"}},
		policy.Policy{Name: "watch", Scope: policy.ScopeGlobal, Limit: 1, Window: 24 * time.Hour, Mode: policy.ModeShadow})
	for i := range 5 {
		r, err := l.CheckRequest(t.Context(), "", &RequestContext{})
		if err != nil {
			t.Fatal(err)
		}
		want := Result{Allowed: i < 3, Policy: "slow", Limit: 3, Window: time.Hour, Burst: 3, Remaining: uint64(max(0, 2-i)),
			ResetAfter: time.Duration(min(3, i+1)) * 20 * time.Minute, List: policy.ListNone}
		if i > 0 {
			want.Shadow = "watch"
		}
		if i >= 3 {
			want.RetryAfter = 20 * time.Minute
		}
		r.lease, r.Headers = lease{}, nil
		if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", want) {
			t.Errorf("%d: %+v, want %+v", i, r, want)
		}
	}
	for name, left := range map[string]uint64{"wide": 97, "slow": 0, "fast": 0, "watch": 0} {
		if b, err := l.Bucket(name, GlobalKey); err != nil || b.Remaining != left {
			t.Errorf("%s: %+v, %v, want %d left", name, b, err, left)
		}
	}
}

// TestCheckAll: one denial denies all, whose buckets are as before; several queries may ask for one bucket.
func TestCheckAll(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, a policy.Algorithm) {
		rapid.Check(t, func(t *rapid.T) {
			c := newFakeClock()
			l := newLimiter(t, c)
			rules, left := [3]*Rule{}, [3]uint64{}
			for i := range rules {
				left[i] = rapid.Uint64Range(1, 5).Draw(t, "limit")
				r, err := l.NewRule(policy.Policy{Name: fmt.Sprint(i), Algorithm: a, Limit: left[i], Window: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				rules[i] = r
			}
			for range rapid.IntRange(1, 5).Draw(t, "calls") {
				n := rapid.IntRange(1, 12).Draw(t, "queries")
				queries, results := make([]Query, n), make([]Result, n)
				want, now := true, left
				for i := range queries {
					which := rapid.IntRange(0, 2).Draw(t, "rule")
					queries[i] = Query{Rule: rules[which], Key: "k", Hits: rapid.Uint64Range(0, 2).Draw(t, "hits")}
					if most := max(queries[i].Hits, 1); most > now[which] {
						want = false
					} else if queries[i].Hits > 0 {
						now[which] -= most
					}
				}
				if _, err := l.CheckAll(t.Context(), queries, results); err != nil {
					t.Fatal(err)
				}
				got := true
				for _, r := range results {
					got = got && r.Allowed
				}
				if got != want {
					t.Fatalf("%v, want %v: %+v", got, want, results)
				}
				if want {
					left = now
				}
				for i, r := range rules {
					if o := r.algorithm.Peek(Bucket{l.table, r.space.text("k")}, c.now(), 1); o.Remaining != left[i] {
						t.Fatalf("%d left of rule %d, want %d", o.Remaining, i, left[i])
					}
				}
			}
		})
	})
}

package limiter

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

func jobs(name string, limit uint64) policy.Policy {
	return policy.Policy{Name: name, Scope: policy.ScopeGlobal, Algorithm: policy.AlgorithmConcurrency, Limit: limit, Window: time.Minute}
}

func (l *Limiter) left(t *testing.T, name string) uint64 {
	t.Helper()
	b, err := l.Bucket(name, GlobalKey)
	if err != nil {
		t.Fatal(err)
	}
	return b.Remaining
}

func (l *Limiter) mustPass(t *testing.T) Result {
	t.Helper()
	r, err := l.CheckRequest(t.Context(), "", &RequestContext{})
	if err != nil || !r.Allowed {
		t.Fatalf("%+v, %v", r, err)
	}
	return r
}

// TestReleaseTwice gives one place back.
func TestReleaseTwice(t *testing.T) {
	l := newLimiter(t, newFakeClock(), jobs("a", 5), jobs("b", 5),
		policy.Policy{Name: "rate", Scope: policy.ScopeGlobal, Limit: 10, Window: time.Second})
	first, second := l.mustPass(t), l.mustPass(t)
	if !first.Releases() || l.left(t, "a") != 3 || l.left(t, "b") != 3 {
		t.Fatalf("%+v", first)
	}
	for range 3 {
		l.Release(&first)
		if l.left(t, "a") != 4 || l.left(t, "b") != 4 || l.left(t, "rate") != 8 || first.Releases() || l.LeaseToken(&first) != "" {
			t.Errorf("%d and %d left of what is in flight, %d of the rate", l.left(t, "a"), l.left(t, "b"), l.left(t, "rate"))
		}
	}
	l.Release(&second)
	l.Release(&Result{})
	if l.left(t, "a") != 5 || l.left(t, "b") != 5 {
		t.Errorf("%d and %d left", l.left(t, "a"), l.left(t, "b"))
	}
}

// TestBadLeaseTokens release nothing.
func TestBadLeaseTokens(t *testing.T) {
	clock := newFakeClock()
	l, other := newLimiter(t, clock, jobs("a", 5)), newLimiter(t, clock, jobs("a", 5))
	r, foreign := l.mustPass(t), other.mustPass(t)
	good := l.LeaseToken(&r)
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(raw []byte) []byte) string {
		return base64.RawURLEncoding.EncodeToString(f(append([]byte(nil), raw...)))
	}
	bad := map[string]string{
		"empty": "", "no base64": "!!!", "padded": good + "=", "of another limiter": other.LeaseToken(&foreign),
		"cut": good[:len(good)-1], "longer": good + "AA", "twice": good + good, "long": strings.Repeat("A", 1<<20),
		"a nonce alone":   edit(func(raw []byte) []byte { return raw[:nonceSize] }),
		"without grants":  edit(func(raw []byte) []byte { return append(raw[:nonceSize], raw[len(raw)-macSize:]...) }),
		"too many grants": base64.RawURLEncoding.EncodeToString(make([]byte, nonceSize+(maxGrants+1)*grantSize+macSize)),
	}
	for i := range raw {
		bad["flipped "+string(rune('A'+i))] = edit(func(raw []byte) []byte { raw[i] ^= 1; return raw })
	}
	for name, token := range bad {
		err := l.ReleaseToken(token)
		var q *QueryError
		if !errors.As(err, &q) || q.Field != "lease" || len(err.Error()) > 200 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.left(t, "a") != 4 {
		t.Errorf("%d left", l.left(t, "a"))
	}
	if err := l.ReleaseToken(good); err != nil || l.left(t, "a") != 5 {
		t.Errorf("the good one: %v, %d left", err, l.left(t, "a"))
	}
}

// TestReplayedLeaseToken: one that was used releases nobody else's place as long as places live, whatever
// became of the policies.
func TestReplayedLeaseToken(t *testing.T) {
	c := newFakeClock()
	l := newLimiter(t, c, jobs("a", 5), jobs("b", 5))
	r := l.mustPass(t)
	token := l.LeaseToken(&r)
	l.mustPass(t)
	if err := l.ReleaseToken(token); err != nil || l.left(t, "a") != 4 || l.left(t, "b") != 4 {
		t.Fatalf("%v, %d and %d left", err, l.left(t, "a"), l.left(t, "b"))
	}
	replay := func(after string, want uint64) {
		t.Helper()
		if err := l.ReleaseToken(token); !errors.Is(err, ErrQuery) {
			t.Errorf("%s: %v", after, err)
		}
		if got := l.left(t, "b"); got != want {
			t.Errorf("%s: %d left", after, got)
		}
	}
	replay("at once", 4)
	if err := l.RemovePolicy(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	replay("the first policy went", 4)
	c.advance(time.Minute)
	l.mustPass(t)
	replay("a minute later, when the other was forgotten", 4)
	c.advance(time.Minute - time.Second)
	replay("before two", 4)
}

// TestLeaseOutlivesReplacement: what is in flight when policies are replaced ends as it should.
func TestLeaseOutlivesReplacement(t *testing.T) {
	l := newLimiter(t, newFakeClock(), jobs("a", 5))
	released, sent, dropped := l.mustPass(t), l.mustPass(t), l.mustPass(t)
	sentToken, droppedToken := l.LeaseToken(&sent), l.LeaseToken(&dropped)
	if err := l.UpdatePolicy(t.Context(), l7(jobs("a", 2))[0]); err != nil {
		t.Fatal(err)
	}
	if l.left(t, "a") != 0 {
		t.Fatalf("%d left", l.left(t, "a"))
	}
	l.Release(&released)
	if err := l.ReleaseToken(sentToken); err != nil || l.left(t, "a") != 1 {
		t.Fatalf("%v, %d left", err, l.left(t, "a"))
	}
	rate := policy.Policy{Name: "a", Scope: policy.ScopeGlobal, Limit: 7, Window: time.Second}
	if err := l.UpdatePolicy(t.Context(), l7(rate)[0]); err != nil {
		t.Fatal(err)
	}
	l.mustPass(t)
	if err := l.ReleaseToken(droppedToken); err != nil || l.left(t, "a") != 6 {
		t.Fatalf("a rate gives nothing back: %v, %d left", err, l.left(t, "a"))
	}
	if err := l.RemovePolicy(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := l.ReleaseToken(droppedToken); err != nil {
		t.Errorf("a policy that went has nothing in flight: %v", err)
	}
}

// TestDeniedHoldNothing, nor does what asks only.
func TestDeniedHoldNothing(t *testing.T) {
	l := newLimiter(t, newFakeClock(), jobs("a", 1), policy.Policy{Name: "none", Scope: policy.ScopePerUser, Limit: 1, Window: time.Hour})
	ctx := &RequestContext{UserID: "u"}
	for i := range 3 {
		r, err := l.CheckRequest(t.Context(), "", ctx)
		if err != nil || r.Allowed != (i == 0) || r.Releases() != r.Allowed {
			t.Errorf("%+v, %v", r, err)
		}
		l.Release(&r)
		if l.left(t, "a") != 1 {
			t.Errorf("%d left", l.left(t, "a"))
		}
	}
}

package server

import (
	"context"
	"net/http"
	"testing"
	"time"
)

// fakeStanding says what it is told to.
type fakeStanding struct {
	status ClusterStatus
	err    error
}

func (f fakeStanding) ClusterStatus(context.Context) (ClusterStatus, error) { return f.status, f.err }

// Scripts rely on these names. What has no end is null, as JSON has no word for it.
func TestClusterStatus(t *testing.T) {
	t.Parallel()
	bound := 2.5
	s := ClusterStatus{
		Node: "a/1", Redis: []string{"redis://127.0.0.1:6379"}, Breaker: "open", BreakerSince: time.Unix(1, 0).UTC(), Nodes: 1,
		Members:  []ClusterMember{{"a/1", time.Second}},
		Policies: []ClusterPolicy{{Policy: "p", Layer: "l7", Consistency: "leased", OnStoreFailure: "local", Bound: &bound, Unit: "requests"}, {}},
	}
	r := startWith(t, Options{Local: true, Standing: fakeStanding{status: s}})
	const want = `{"node":"a/1","redis":["redis://127.0.0.1:6379"],"available":false,"breaker":"open","breaker_since":"1970-01-01T00:00:01Z",` +
		`"breaker_opened":0,"consecutive_failures":0,"nodes":1,"members":[{"node":"a/1","heartbeat_age_ns":1000000000}],"members_listed_ago_ns":0,"heartbeat_age_ns":0,` +
		`"reconcile_lag_ns":null,"epoch":"","granting":false,"losses":0,"clock_skew_ns":0,"policies_version":0,"policies":[` +
		`{"policy":"p","layer":"l7","consistency":"leased","on_store_failure":"local","acts_strict":false,"over_admission_bound":2.5,"unit":"requests"},` +
		`{"policy":"","layer":"","consistency":"","on_store_failure":"","acts_strict":false,"over_admission_bound":null,"unit":""}]}` + "\n"
	if a, body := r.do(t, "GET", "/v1/cluster"); a.StatusCode != http.StatusOK || body != want {
		t.Errorf("%d %s, want\n%s", a.StatusCode, body, want)
	}
}

// It names other hosts: over TCP it is for administrators.
func TestClusterStatusIsGuarded(t *testing.T) {
	t.Parallel()
	r := startWith(t, Options{Standing: fakeStanding{}, Token: func() Token { return Token{} }})
	if a, body := r.do(t, "GET", "/v1/cluster"); a.StatusCode != http.StatusForbidden && a.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s", a.StatusCode, body)
	}
	r = startWith(t, Options{Local: true, Standing: fakeStanding{err: NewProblem(http.StatusNotFound, "alone")}})
	if a, body := r.do(t, "GET", "/v1/cluster"); a.StatusCode != http.StatusNotFound {
		t.Errorf("%d %s", a.StatusCode, body)
	}
}

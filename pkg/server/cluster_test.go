package server

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weir-limiter/weir/pkg/policy"
)

// fakeCluster notes what is asked of it.
type fakeCluster struct {
	asked  []ClusterChange
	edited policy.Document
	err    error
}

var _ ClusterPolicies = (*fakeCluster)(nil)

func (f *fakeCluster) ClusterSet(context.Context) (ClusterSet, error) {
	return ClusterSet{Version: 7, Nodes: []ClusterNode{}}, f.err
}

func (f *fakeCluster) ChangeCluster(_ context.Context, c ClusterChange) (a ClusterApplied, err error) {
	if c.Edit != nil {
		if f.edited, err = c.Edit(f.edited); err != nil {
			return a, err
		}
	}
	c.Edit = nil
	f.asked = append(f.asked, c)
	return ClusterApplied{Version: 8}, f.err
}

// TestCluster holds what the calls ask for, and that they are for administrators.
func TestCluster(t *testing.T) {
	t.Parallel()
	f := &fakeCluster{edited: policy.Document{Policies: []policy.Policy{testPolicy("a"), testPolicy("b")}}}
	r := startWith(t, Options{Local: true, Cluster: f})
	seven, none := uint64(7), uint64(0)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
		asked              *ClusterChange
	}{
		{"GET", "", "", 200, `{"version":7,"cleared":false,"size":0,"document":{},"nodes":[]}`, nil},
		{"DELETE", "/a?expect=7&by=alice", "", 200, `"version":8`, &ClusterChange{Expect: &seven, By: "alice"}},
		{"DELETE", "/a", "", 404, `no policy \"a\" is in force (there are: b)`, nil},
		{"PUT", "?expect=0&dry_run=true", "{}", 200, `"version":8`, &ClusterChange{Whole: true, Expect: &none, DryRun: true}},
		{"PUT", "?force=true", `{"deny":["192.0.2.0/24"]}`, 200, `"version":8`, &ClusterChange{Whole: true, Force: true}},
		{"PUT", "", `{"denied":[]}`, 400, "denied", nil},
		{"PUT", "", "", 400, "empty", nil},
		{"PUT", "?expect=x", "{}", 400, "expect=x", nil},
		{"PUT", "?expect=-1", "{}", 400, "expect=-1", nil},
		{"PUT", "?force=x", "{}", 400, "force=x: want true or false", nil},
		{"PUT", "?dry_run=x", "{}", 400, "dry_run=x: want true or false", nil},
		{"PUT", "?force=true&expect=3", "{}", 400, "contradict", nil},
		{"DELETE", "", "", 200, `"version":8`, &ClusterChange{Whole: true}},
		{"POST", "", "", 405, "", nil},
	} {
		f.asked = nil
		answer, body := r.send(t, c.method, "/v1/cluster/policies"+c.path, c.body, nil)
		if answer.StatusCode != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d and %s", c.method, c.path, c.body, answer.StatusCode, body, c.status, c.want)
		}
		var asked *ClusterChange
		if len(f.asked) > 0 {
			asked = &f.asked[0]
		}
		if diff := cmp.Diff(c.asked, asked, cmpopts.IgnoreFields(ClusterChange{}, "Edit")); diff != "" {
			t.Errorf("%s %s: asked for (-want +got):\n%s", c.method, c.path, diff)
		}
	}
	if len(f.edited.Policies) != 0 || len(f.edited.Deny) != 1 {
		t.Errorf("stored %+v", f.edited)
	}
	f.err = NewProblem(http.StatusConflict, "somebody was faster")
	answer, body := r.send(t, "PUT", "/v1/cluster/policies", "{}", nil)
	wantProblem(t, "conflict", answer, body, 409, "somebody was faster")

	open := startWith(t, Options{Cluster: f, Token: func() Token { return Token{} }})
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if answer, body := open.send(t, method, "/v1/cluster/policies", "{}", nil); answer.StatusCode != 403 {
			t.Errorf("%s over TCP without a token: %d %s", method, answer.StatusCode, body)
		}
	}
}

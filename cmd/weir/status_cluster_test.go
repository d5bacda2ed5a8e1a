package main

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/server"
)

// What a node says of itself over its socket, and how it is shown.
func TestStatusOfCluster(t *testing.T) {
	t.Parallel()
	socket, kill := startSocketRedis(t)
	m := newMember(t, "a", socket, t.TempDir(), sharedPolicies)
	waitReady(t, 1, m)
	out := m.ok("status")
	for _, want := range []string{
		`(?m)^cluster  1 node, node [^ ]+/[0-9a-f]+$`, `(?m)^  redis +unix://` + regexp.QuoteMeta(socket) + `, available$`, `(?m)^  breaker +closed for `,
		`(?m)^  node +[^ ]+/[0-9a-f]+, heard of .* ago$`, `(?m)^  heartbeat +.* old$`, `(?m)^  epoch +[0-9a-f]+$`, `(?m)^  clocks +Redis' is .* (ahead|behind)$`,
		`(?m)^  POLICY +LAYER +CONSISTENCY +WITHOUT REDIS +MAY EXCEED BY$`,
		`(?m)^  leased +l7 +leased +local +10$`, `(?m)^  small +l7 +leased, acts strict: its burst is too small for so many nodes +local +0$`,
		`(?m)^  strict +l7 +strict +open +0$`, `(?m)^  alone +l7 +local +local +0$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "reconciled") || regexp.MustCompile(`(?m)^  off `).MatchString(out) {
		t.Errorf("of what is not there:\n%s", out)
	}

	kill()
	wait(t, "the breaker", func() error {
		m.ok("check", "--user", "ann", "--endpoint", "/strict")
		if m.d.sharing.guard.Ready() {
			return errors.New("the guard is ready")
		}
		return nil
	})
	var v statusView
	if err := json.Unmarshal([]byte(m.ok("status", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	c := v.Daemon.Cluster
	if c == nil || c.Available || c.Breaker == "closed" || c.BreakerOpened != 1 || c.LastError == "" || c.Policies[2].Bound != nil {
		t.Errorf("without Redis: %+v", c)
	}
	// Nothing new was heard of anybody since, this node itself included.
	wait(t, "ages that grow", func() error {
		if out := m.ok("status", "-o", "json"); json.Unmarshal([]byte(out), &v) != nil || v.Daemon.Cluster.Members[0].Age < time.Second {
			return errors.New(out)
		}
		return nil
	})
	if out := m.ok("status"); !regexp.MustCompile(`(?m)^  strict +l7 +strict +open +no limit$`).MatchString(out) || !strings.Contains(out, "away: on_store_failure decides") {
		t.Errorf("without Redis:\n%s", out)
	}
}

// A daemon that shares nothing has nothing to say of a cluster.
func TestStatusWithoutCluster(t *testing.T) {
	t.Parallel()
	m := newMember(t, "a", "", "", fileOf(100))
	if out := m.ok("status", "-o", "json"); !strings.Contains(out, `"cluster": null`) {
		t.Errorf("status: %s", out)
	}
	if out := m.ok("status"); strings.Contains(out, "cluster") || !strings.Contains(out, "answers on") {
		t.Errorf("status: %s", out)
	}
}

// What a node shows that has lost touch, in colours.
func TestWriteCluster(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	lag, bound := 4*time.Second, 1500.2
	s := &server.ClusterStatus{
		Node: "a/1", Redis: []string{"redis://10.0.0.1:6379"}, Breaker: "half-open", BreakerSince: now.Add(-time.Minute), BreakerOpened: 2,
		LastError: "timeout", Nodes: 2, Members: []server.ClusterMember{{Node: "a/1", Age: 9 * time.Second}, {Node: "b/2", Age: 13 * time.Second}},
		ListedAgo: 8 * time.Second, HeartbeatAge: 2 * time.Second, ReconcileLag: &lag, Epoch: "e", Granting: true, Losses: 1, Skew: -2 * time.Second,
		Policies: []server.ClusterPolicy{{Policy: "p", Layer: "kernel", Consistency: "reconciled", OnStoreFailure: "share", Bound: &bound, Unit: "bytes"}},
	}
	var out strings.Builder
	p := &page{w: &out, colour: true}
	writeCluster(p, s, now)
	shown := strings.NewReplacer("\x1b[0m", "}", "\x1b[", "{").Replace(out.String())
	want := `
{1mcluster}  2 nodes, node a/1
  {2mredis}       {31mredis://10.0.0.1:6379, away: on_store_failure decides}
  {2mbreaker}     {31mhalf-open for 1m0s, opened 2 times, last failure: timeout}
  {2mnode}        a/1, heard of 9s ago
  {2mnode}        {31mb/2, heard of 13s ago}
  {2mheartbeat}   2s old
  {2mreconciled}  {31m4s ago}
  {2mepoch}       {33me, Redis lost its data 1 time}
  {2mclocks}      {33mRedis' is 2s behind}

  {1mPOLICY}  {1mLAYER}   {1mCONSISTENCY}  {1mWITHOUT REDIS}  {1mMAY EXCEED BY}
  {1mp}       kernel  reconciled   share                1,501 B
`
	if diff := cmp.Diff(want, shown); diff != "" || p.err != nil {
		t.Errorf("%v: %s", p.err, diff)
	}
}

package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	changed := perIP("changed", 10)
	changed.Limit, changed.Burst = 20, 20
	changed.Match = policy.Match{Protocol: "udp", Ports: []policy.PortRange{{First: 53, Last: 53}}}
	before := policy.Document{
		Policies: []policy.Policy{perIP("same", 1), perIP("changed", 10), perIP("gone", 1)},
		Allow:    []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")},
	}
	after := policy.Document{
		Policies: []policy.Policy{perIP("new", 1), changed, perIP("same", 1)},
		Allow:    []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Deny:     []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")},
	}
	got, err := compare(before, after)
	if err != nil {
		t.Fatal(err)
	}
	want := server.Applied{
		Policies: []server.PolicyChange{
			{Policy: "same", Outcome: server.OutcomeUnchanged},
			{Policy: "changed", Outcome: server.OutcomeChanged, Fields: []server.FieldChange{
				{Field: "burst", From: 10.0, To: 20.0},
				{Field: "limit", From: 10.0, To: 20.0},
				{Field: "match.ports", To: []any{53.0}},
				{Field: "match.protocol", To: "udp"},
			}},
			{Policy: "gone", Outcome: server.OutcomeRemoved},
			{Policy: "new", Outcome: server.OutcomeAdded},
		},
		Allow: server.ListChange{Added: []netip.Prefix{}, Removed: before.Allow[1:], Kept: 1},
		Deny:  server.ListChange{Added: after.Deny, Removed: []netip.Prefix{}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}

	var out strings.Builder
	p := &page{w: &out}
	got.Lasts = "for good"
	writeApplied(p, &got)
	const text = `  unchanged  same
~ changed    changed
      burst: 10 -> 20
      limit: 10 -> 20
      match.ports: none -> [53]
      match.protocol: none -> udp
- removed    gone
+ added      new
- allow 198.51.100.0/24
+ deny 2001:db8::/32

in force for good
`
	if out.String() != text {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), text)
	}
}

// TestMergeApplied: what changes at one place changes.
func TestMergeApplied(t *testing.T) {
	t.Parallel()
	one := server.Applied{Policies: []server.PolicyChange{{Policy: "a", Outcome: server.OutcomeUnchanged}, {Policy: "b", Outcome: server.OutcomeAdded}}}
	two := server.Applied{Policies: []server.PolicyChange{{Policy: "a", Outcome: server.OutcomeAdded}, {Policy: "b", Outcome: server.OutcomeUnchanged}, {Policy: "c", Outcome: server.OutcomeRemoved}}}
	got := mergeApplied(mergeApplied(server.Applied{}, one), two)
	want := []server.PolicyChange{{Policy: "a", Outcome: server.OutcomeAdded}, {Policy: "b", Outcome: server.OutcomeAdded}, {Policy: "c", Outcome: server.OutcomeRemoved}}
	if diff := cmp.Diff(want, got.Policies); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

// changedConfig is testConfig with one policy changed, one removed and one added.
const changedConfig = `table: {entries: 1024}
policies:
  - {name: per-client, scope: per_ip, limit: 5, window: 5d}
  - {name: other, scope: per_ip, limit: 20, window: 20d}
`

// TestPolicyApply changes what is attached at two hooks without a daemon.
func TestPolicyApply(t *testing.T) {
	s := newSite(t)
	changed := writeConfig(t, changedConfig)
	for _, args := range [][]string{{"policy", "apply", "-f", changed}, {"policy", "apply", "-f", changed, "--dry-run"}, {"policy", "delete", "per-client"}} {
		if r := s.weir(t, args...); r.code != exitFailure || !strings.Contains(r.err, "attach") {
			t.Errorf("weir %v with nothing attached: %+v", args, r)
		}
	}
	s.attach(t, testConfig)
	s.ok(t, "attach", s.pair.B.Interface, "-c", writeConfig(t, testConfig), "--hook", "tc-egress", "--mode", "clsact") // which every kernel has
	s.send(t, s.pair.A.IPv4, 4)

	const want = `~ changed    per-client
      burst: 10 -> 5
      limit: 10 -> 5
      window: 10d -> 5d
- removed    per-net
+ added      other
`
	if out := s.ok(t, "policy", "apply", "-f", changed, "--dry-run"); out != want+"\nnothing was changed: this is a dry run\n" {
		t.Errorf("dry run:\n%s", out)
	}
	if got := s.limits(t); got != "per-client 10, per-net 15; per-client 10, per-net 15" {
		t.Errorf("after the dry run: %s", got)
	}
	if out := s.ok(t, "policy", "apply", "-f", changed); out != want+"\nin force "+lastsPinned+"\n" {
		t.Errorf("apply:\n%s", out)
	}
	if got := s.limits(t); got != "per-client 5, other 20; per-client 5, other 20" {
		t.Errorf("after apply: %s", got)
	}
	var bucket bucketView
	s.json(t, &bucket, "bucket", "get", "per-client", s.pair.A.IPv4.String(), "--direction", "ingress")
	if bucket.Tokens != 1 {
		t.Errorf("%d tokens of 5 after 4 packets, want 1: the bucket keeps its debt", bucket.Tokens)
	}
	if out := s.ok(t, "policy", "apply", "-f", changed); out != "  unchanged  per-client\n  unchanged  other\nnothing changes\n" {
		t.Errorf("apply again:\n%s", out)
	}

	var v server.Applied
	s.json(t, &v, "policy", "delete", "other")
	if len(v.Policies) != 2 || v.Policies[1].Outcome != server.OutcomeRemoved || v.DryRun || v.Lasts != lastsPinned {
		t.Errorf("delete: %+v", v)
	}
	if got := s.limits(t); got != "per-client 5; per-client 5" {
		t.Errorf("after delete: %s", got)
	}
	if r := s.weir(t, "policy", "delete", "other"); r.code != exitFailure || !strings.Contains(r.err, `no policy "other" is in force (there are: per-client)`) {
		t.Errorf("delete of what is gone: %+v", r)
	}
	if r := s.weir(t, "policy", "apply"); r.code != exitUsage {
		t.Errorf("apply of nothing: %+v", r)
	}
	if r := s.weir(t, "policy", "apply", "-f", corpus+"bad/many-faults.yaml"); r.code != exitFailure || strings.Count(r.err, "\n") != 8 {
		t.Errorf("apply of a bad file: %+v", r)
	}
}

// limits are the names and limits of the policies at each attachment.
func (s *site) limits(t *testing.T) string {
	t.Helper()
	var v statusView
	s.json(t, &v, "status")
	var all []string
	for _, a := range v.Attachments {
		var policies []string
		for _, p := range a.Policies {
			policies = append(policies, p.Name+" "+thousands(p.Limit))
		}
		all = append(all, strings.Join(policies, ", "))
	}
	return strings.Join(all, "; ")
}

package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

// ClusterPolicies is who knows the policies of the whole cluster, and changes them. Its methods may be called by several
// goroutines at once. An error that is a [Problem] is answered as it is, any other with status 500.
type ClusterPolicies interface {
	// ClusterSet is what the cluster has, as the store has it now.
	ClusterSet(ctx context.Context) (ClusterSet, error)
	// ChangeCluster stores what a change makes of it, whole or not at all. That somebody else was faster is a [Problem] of
	// status 409.
	ChangeCluster(ctx context.Context, c ClusterChange) (ClusterApplied, error)
}

// ClusterSet is the answer of GET /v1/cluster/policies. Clients read it: add fields, rename none.
type ClusterSet struct {
	// Version counts from 1; 0: the cluster has no set, and never had.
	Version uint64 `json:"version"`
	// Cleared says that there is none any more: nodes have the policies of their files.
	Cleared bool   `json:"cleared"`
	Sum     string `json:"sum,omitempty"`
	// By says who stored it.
	By string `json:"by,omitempty"`
	// At is when, by Redis' clock.
	At *time.Time `json:"at,omitempty"`
	// Encoding is how the store has it, Size in how many bytes.
	Encoding string          `json:"encoding,omitempty"`
	Size     int             `json:"size"`
	Document policy.Document `json:"document"`
	// Nodes are those that told lately which version they have.
	Nodes []ClusterNode `json:"nodes"`
}

// ClusterNode is which version of the cluster's policies a node has.
type ClusterNode struct {
	Node string `json:"node"`
	// Version is that of the last set that it took up; 0: none.
	Version uint64 `json:"version"`
	// Reason is why it has not taken up what there is, and Refused the version of that: 0: it can't be read.
	Reason  string        `json:"reason,omitempty"`
	Refused uint64        `json:"refused,omitempty"`
	Ago     time.Duration `json:"told_ago_ns"`
}

// ClusterChange is a change of the cluster's policies.
type ClusterChange struct {
	// Edit makes the next set of the one that there is; nil: there is to be none any more.
	Edit Edit
	// Whole says that Edit looks at nothing, so that there need be no set.
	Whole bool
	// Expect is the version that the change is for; nil: the one that there is now.
	Expect *uint64
	// Force stores the change whatever there is by then, even if that can't be read.
	Force bool
	// DryRun changes nothing, and tells what would be.
	DryRun bool
	// By is who asks for it, as they say.
	By string
}

// ClusterApplied is what a change of the cluster's policies did, or would do, to them.
type ClusterApplied struct {
	Applied
	// Version is what the cluster has now.
	Version uint64 `json:"version"`
	// Pending is why the node that was asked does not have it in force yet; empty: it has.
	Pending string `json:"pending,omitempty"`
}

// clusterRoutes are for administrators alone: each asks something of the store.
func clusterRoutes(p ClusterPolicies) []route {
	change := func(what func(*http.Request) (ClusterChange, error)) http.Handler {
		return answer(func(r *http.Request) (any, error) {
			c, err := what(r)
			if err != nil {
				return nil, err
			}
			if err := c.query(r); err != nil {
				return nil, err
			}
			return p.ChangeCluster(r.Context(), c)
		})
	}
	return []route{
		{"GET /v1/cluster/policies", guarded, answer(func(r *http.Request) (any, error) { return p.ClusterSet(r.Context()) })},
		{"PUT /v1/cluster/policies", guarded, change(func(r *http.Request) (ClusterChange, error) {
			edit, err := replaceAll(r)
			return ClusterChange{Edit: edit, Whole: true}, err
		})},
		{"DELETE /v1/cluster/policies", guarded, change(func(*http.Request) (ClusterChange, error) {
			return ClusterChange{Whole: true}, nil
		})},
		{"DELETE /v1/cluster/policies/{name}", guarded, change(func(r *http.Request) (ClusterChange, error) {
			return ClusterChange{Edit: WithoutPolicy(r.PathValue("name"))}, nil
		})},
	}
}

// query reads how a change is to be made.
func (c *ClusterChange) query(r *http.Request) (err error) {
	if c.DryRun, err = queryFlag(r, "dry_run"); err != nil {
		return err
	}
	if c.Force, err = queryFlag(r, "force"); err != nil {
		return err
	}
	q := r.URL.Query()
	c.By = q.Get("by")
	text := q.Get("expect")
	if text == "" {
		return nil
	}
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return NewProblem(http.StatusBadRequest, "expect=%s: want the version that the change is for, 0 for none", text)
	}
	if c.Force {
		return NewProblem(http.StatusBadRequest, "expect and force contradict one another (leave one out)")
	}
	c.Expect = &version
	return nil
}

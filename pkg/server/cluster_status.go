package server

import (
	"context"
	"net/http"
	"time"
)

// Standing tells how this node stands with the others. Its method may be called by several goroutines at once, and must not
// wait for Redis. An error that is a [Problem] is answered as it is.
type Standing interface {
	ClusterStatus(ctx context.Context) (ClusterStatus, error)
}

// ClusterStatus is the answer of GET /v1/cluster. Clients read it: add fields, rename none.
type ClusterStatus struct {
	// Node is this one's name, and Redis is where its file says that Redis is, without secrets.
	Node  string   `json:"node"`
	Redis []string `json:"redis"`
	// Available says that decisions may ask Redis: it answers, and what this node owes it is reported.
	Available bool `json:"available"`
	// Breaker is closed, open or half-open, since BreakerSince.
	Breaker             string    `json:"breaker"`
	BreakerSince        time.Time `json:"breaker_since"`
	BreakerOpened       uint64    `json:"breaker_opened"`
	ConsecutiveFailures uint64    `json:"consecutive_failures"`
	// LastError is the class of the last failure; empty: there never was one.
	LastError string `json:"last_error,omitempty"`
	// Nodes is how many nodes there are; Members are those whose heartbeats Redis had when they were listed last, which was
	// ListedAgo: at each heartbeat of this node's while there are few, else every ten seconds.
	Nodes     int             `json:"nodes"`
	Members   []ClusterMember `json:"members"`
	ListedAgo time.Duration   `json:"members_listed_ago_ns"`
	// HeartbeatAge is that of this node's last heartbeat which Redis answered, or of the daemon if none was.
	HeartbeatAge time.Duration `json:"heartbeat_age_ns"`
	// ReconcileLag is how long ago the last round that reached Redis was; null: nothing of the kernel is shared.
	ReconcileLag *time.Duration `json:"reconcile_lag_ns"`
	// Epoch names the time since Redis last lost its data; empty: it is not known yet. Granting says that this node grants
	// from it. Losses counts how often it was lost since the daemon began.
	Epoch    string `json:"epoch"`
	Granting bool   `json:"granting"`
	Losses   uint64 `json:"losses"`
	// Skew is how far Redis' clock is ahead of this node's.
	Skew time.Duration `json:"clock_skew_ns"`
	// PoliciesVersion is that of the cluster's policies in force; 0: those of the file are.
	PoliciesVersion uint64 `json:"policies_version"`
	// Policies are those that decide here.
	Policies []ClusterPolicy `json:"policies"`
}

// ClusterMember is a node of a cluster.
type ClusterMember struct {
	Node string `json:"node"`
	// Age is that of the last heartbeat that is known of; there may have been others since the members were listed.
	Age time.Duration `json:"heartbeat_age_ns"`
}

// ClusterPolicy is how nodes share a policy.
type ClusterPolicy struct {
	Policy         string `json:"policy"`
	Layer          string `json:"layer"`
	Consistency    string `json:"consistency"`
	OnStoreFailure string `json:"on_store_failure"`
	// ActsStrict says that a leased policy asks Redis for each decision, as its burst is too small for so many nodes.
	ActsStrict bool `json:"acts_strict"`
	// Bound is by how many tokens all nodes together may exceed burst + rate * t of a bucket, as things are now; null:
	// without end.
	Bound *float64 `json:"over_admission_bound"`
	// Unit is what tokens are.
	Unit string `json:"unit"`
}

// standingRoutes are guarded: they tell of other hosts.
func standingRoutes(s Standing) []route {
	return []route{{"GET /v1/cluster", guarded, answer(func(r *http.Request) (any, error) { return s.ClusterStatus(r.Context()) })}}
}

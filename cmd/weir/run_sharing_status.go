package main

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
	"github.com/weir-limiter/weir/pkg/server"
)

var _ server.Standing = (*daemon)(nil)

// ClusterStatus tells how this node stands with the others. It asks nobody.
func (d *daemon) ClusterStatus(context.Context) (server.ClusterStatus, error) {
	s := d.sharing
	if s == nil {
		return server.ClusterStatus{}, noCluster()
	}
	g, m, now := s.guard.State(), s.members.State(), time.Now()
	v := server.ClusterStatus{
		Node: s.name, Redis: s.addresses(), Available: s.Ready(), Breaker: g.Breaker, BreakerSince: g.Since, BreakerOpened: g.Opened,
		ConsecutiveFailures: g.ConsecutiveFailures, LastError: g.LastError.String(), Nodes: m.Nodes, Members: []server.ClusterMember{},
		HeartbeatAge: s.heartbeatAge(m, now), Epoch: m.Epoch, Granting: m.Granting, Losses: max(1, m.Epochs) - 1, Skew: m.Skew,
		PoliciesVersion: d.cluster.version(), Policies: d.sharedPolicies(),
	}
	for _, one := range m.Members {
		v.ListedAgo = max(0, now.Sub(m.Listed))
		v.Members = append(v.Members, server.ClusterMember{Node: one.Name, Age: one.Age + v.ListedAgo})
	}
	if r := s.reconciling(); r != nil {
		v.ReconcileLag = &r.Lag
	}
	return v, nil
}

// addresses are where Redis is, or sentinels that know, without secrets.
func (s *sharing) addresses() []string {
	all := []string{}
	for _, u := range s.config.URL {
		all = append(all, u.String())
	}
	if sentinel := s.config.Sentinel; sentinel != nil {
		for _, address := range sentinel.Addresses {
			all = append(all, "sentinel://"+address+"/"+sentinel.Master)
		}
	}
	return all
}

// sharedPolicies are how the policies are shared that decide here.
func (d *daemon) sharedPolicies() []server.ClusterPolicy {
	all := []server.ClusterPolicy{}
	policies := d.requests.limiter.Document().Policies
	for i := range policies {
		p := &policies[i]
		if p.Mode == policy.ModeOff {
			continue
		}
		one := server.ClusterPolicy{
			Policy: p.Name, Layer: string(p.Layer), Consistency: string(cmp.Or(p.Consistency, policy.ConsistencyLocal)),
			OnStoreFailure: string(p.OnStoreFailure), ActsStrict: d.sharing.actsStrict(p), Unit: string(p.Unit),
		}
		if b := d.sharing.overAdmission(p); !math.IsInf(b, 1) { // which JSON has no word for
			one.Bound = &b
		}
		all = append(all, one)
	}
	return all
}

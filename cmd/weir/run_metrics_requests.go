package main

import (
	"context"

	"github.com/weir-limiter/weir/pkg/limiter"
	"github.com/weir-limiter/weir/pkg/metrics"
	"github.com/weir-limiter/weir/pkg/policy"
)

var _ metrics.LimiterSource = (*requests)(nil)

// policies counts those of layer 7 that are in force.
func (r *requests) policies() int { return len(policy.L7Policies(r.limiter.Document().Policies)) }

// Limiter reads the counters of layer 7.
func (r *requests) Limiter() metrics.Limiter {
	s, h := r.limiter.Counters(), r.limiter.Health(context.Background())
	m := metrics.Limiter{
		RedisAvailable: h.RedisAvailable, ConsecutiveFailures: h.ConsecutiveFailures, Pressure: s.Table.Pressure,
		Backends: []metrics.Backend{{
			Name: limiter.BackendMemory, Allowed: s.AllowedRequests, Exceeded: s.ExceededRequests, Failed: s.InvalidRequests,
			Durations: metrics.Durations(r.limiter.Durations()[limiter.BackendMemory]),
		}},
	}
	now := r.inForce.Load()
	if v := now.verifier; v.Verifier != nil {
		n, _ := v.Keys()
		m.Tokens = &metrics.Tokens{Keys: n, Rejected: now.identity.Rejected()}
	}
	if r.rls != nil {
		m.UnknownDomains = new(r.rls.UnknownDomains())
	}
	for _, p := range s.Policies {
		m.Policies = append(m.Policies, metrics.RequestPolicy{
			Name: p.Policy, Allowed: p.Allowed + p.Refunded, Exceeded: p.Exceeded, ShadowExceeded: p.ShadowExceeded,
		})
	}
	return m
}

// LimiterTable reads how full the table of layer 7 is, which walks over all of it.
func (r *requests) LimiterTable() metrics.LimiterTable {
	t := r.limiter.Stats(context.Background()).Table
	return metrics.LimiterTable{Capacity: t.Capacity, Claimed: t.Claimed, Owing: t.Owing}
}

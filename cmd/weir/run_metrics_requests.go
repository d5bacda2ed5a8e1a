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
	}
	durations := r.limiter.Durations()
	for _, b := range s.Backends {
		one := metrics.Backend{Name: b.Backend, Allowed: b.Allowed, Exceeded: b.Exceeded, Durations: metrics.Durations(durations[b.Backend])}
		if b.Backend == limiter.BackendMemory { // what could not be decided was asked of nobody else
			one.Failed = s.InvalidRequests
		}
		m.Backends = append(m.Backends, one)
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

package metrics

import "github.com/prometheus/client_golang/prometheus"

// figure is a metric without labels, and how it is read.
type figure[T any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*T) float64
}

func gaugeOf[T any](name, help string, read func(*T) float64) figure[T] {
	return figure[T]{describeOne(name, help), prometheus.GaugeValue, read}
}

func counterOf[T any](name, help string, read func(*T) uint64) figure[T] {
	return figure[T]{describeOne(name, help), prometheus.CounterValue, func(v *T) float64 { return float64(read(v)) }}
}

func describeFigures[T any](ch chan<- *prometheus.Desc, all []figure[T]) {
	for _, f := range all {
		ch <- f.desc
	}
}

func collectFigures[T any](out sink, all []figure[T], v *T) {
	for _, f := range all {
		out.send(f.desc, f.kind, f.read(v), nil)
	}
}

// storeFigures are those of what shares counts.
var storeFigures = []figure[Store]{
	gaugeOf("nodes", "Nodes that share counts, this one too, as far as it knows.", func(s *Store) float64 { return float64(s.Nodes) }),
	gaugeOf("heartbeat_age_seconds", "Since when this node's last heartbeat that Redis answered was sent. Over 3 the others count it as dead.",
		func(s *Store) float64 { return s.HeartbeatAge.Seconds() }),
	gaugeOf("redis_clock_skew_seconds", "How far Redis' clock is ahead of this node's. Limits go by Redis' alone.",
		func(s *Store) float64 { return s.Skew.Seconds() }),
	counterOf("store_epochs_total", "Epochs of Redis' data that this node saw: each but the first is a loss of data.",
		func(s *Store) uint64 { return s.Epochs }),
	counterOf("breaker_opened_total", "Times that Redis went away.", func(s *Store) uint64 { return s.Opened }),
	counterOf("redis_commands_total", "Script calls that decisions and reports made.", func(s *Store) uint64 { return s.Redis.Commands }),
	counterOf("redis_keys_total", "Buckets in these calls.", func(s *Store) uint64 { return s.Redis.Keys }),
	counterOf("redis_round_trips_total", "Pipelines that these calls were sent in.", func(s *Store) uint64 { return s.Redis.RoundTrips }),
	counterOf("lease_asks_total", "Questions of requests that a shared limit could not decide by what this node holds.",
		func(s *Store) uint64 { return s.Leases.Asks }),
	counterOf("lease_waits_total", "Times that a request waited for Redis.", func(s *Store) uint64 { return s.Leases.Waits }),
	counterOf("lease_away_total", "Questions that Redis did not decide: on_store_failure did.", func(s *Store) uint64 { return s.Leases.Away }),
	counterOf("lease_busy_total", "Questions and refills that found too many others waiting.", func(s *Store) uint64 { return s.Leases.Busy }),
	counterOf("lease_contended_total", "Questions that were denied because others of this node were faster, each time.",
		func(s *Store) uint64 { return s.Leases.Contended }),
	counterOf("lease_expired_total", "Questions that were dropped unsent, as nobody waited for them any more.",
		func(s *Store) uint64 { return s.Leases.Expired }),
	counterOf("lease_late_total", "Answers that came when nobody waited for them any more.", func(s *Store) uint64 { return s.Leases.Late }),
	counterOf("lease_refills_total", "Leases that were asked for before the last was used up: nobody waits for these.",
		func(s *Store) uint64 { return s.Leases.Refills }),
	counterOf("lease_returned_tokens_total", "Tokens that were given back.", func(s *Store) uint64 { return s.Leases.Returned }),
	counterOf("lease_dropped_tokens_total", "Tokens that were neither used nor given back: others admit less.",
		func(s *Store) uint64 { return s.Leases.Dropped }),
	counterOf("lease_reported_total", "Debts of buckets that were told to Redis when it was back.", func(s *Store) uint64 { return s.Leases.Reported }),
	counterOf("lease_forgotten_total", "Debts of buckets that this node had no room to remember: others admit too much.",
		func(s *Store) uint64 { return s.Leases.Forgotten }),
	counterOf("lease_broken_buckets_total", "Times that something else was under a bucket's key.", func(s *Store) uint64 { return s.Leases.Broken }),
	gaugeOf("policy_set_version", "Version of the cluster's policies that is in force here; 0: those of the file are.",
		func(s *Store) float64 { return float64(s.PolicySet) }),
	gaugeOf("policy_set_refused", "Whether the cluster has policies that this node can't take: 1 or 0. What was in force still is.",
		func(s *Store) float64 {
			if s.PolicyRefused {
				return 1
			}
			return 0
		}),
}

// reconcileFigures are those of the kernel's shared limits.
var reconcileFigures = []figure[Reconcile]{
	gaugeOf("reconcile_tracked", "Busy sources of the kernel that the nodes tell each other of.", func(r *Reconcile) float64 { return float64(r.Tracked) }),
	gaugeOf("reconcile_deferred", "Sources whose use was left for another round, in the last one.",
		func(r *Reconcile) float64 { return float64(r.Deferred) }),
	gaugeOf("reconcile_lag_seconds", "How long ago the last round that reached Redis was; 0 if the last one did.",
		func(r *Reconcile) float64 { return r.Lag.Seconds() }),
	counterOf("reconcile_rounds_total", "Rounds of reports.", func(r *Reconcile) uint64 { return r.Rounds }),
	counterOf("reconcile_failed_total", "Rounds of which a call to Redis failed.", func(r *Reconcile) uint64 { return r.Failed }),
	counterOf("reconcile_reported_total", "Reports of what sources used.", func(r *Reconcile) uint64 { return r.Reported }),
	counterOf("reconcile_refused_total", "Announcements of busy sources for which there was no room.", func(r *Reconcile) uint64 { return r.Refused }),
	counterOf("reconcile_shed_total", "Sources that made room for heavier ones.", func(r *Reconcile) uint64 { return r.Shed }),
}

// alertFigures are those of alerts.
var alertFigures = []figure[Alerts]{
	counterOf("alerts_retried_total", "Attempts to send an alert, after each one's first.", func(a *Alerts) uint64 { return a.Retried }),
}

package config

import (
	"math"
	"time"
)

// The schema is a table per mapping: name of the field, how to read it. It knows
// everything that the contract promises; what this version does not do yet is
// wrapped in unavailable, and work that adds it unwraps it.

func (c *Config) into() into {
	return mapping(
		field{name: "interfaces", to: interfaces(&c.Interfaces)},
		field{name: "table", to: mapping(c.Table.fields()...)},
		field{name: "server", to: c.Server.into()},
		field{name: "redis", to: unavailable(pointer(&c.Redis, (*Redis).into))},
		field{name: "fallback", to: unavailable(c.Fallback.into())},
		field{name: "policies", to: list(&c.Policies, policyInto)},
		field{name: "allow", to: list(&c.Allow, prefix)},
		field{name: "deny", to: list(&c.Deny, prefix)},
	)
}

func (t *Table) fields() []field {
	return []field{
		{name: "entries", to: entries(&t.Entries)},
		{name: "l7_entries", to: entries(&t.L7Entries)},
	}
}

func (r *Redis) into() into {
	*r = Redis{
		PoolSize:          10,
		ConnectionTimeout: 5 * time.Second,
		CommandTimeout:    10 * time.Millisecond,
		KeyPrefix:         "weir",
		DefaultTTL:        time.Hour,
	}
	return mapping(
		field{name: "url", to: oneOrMore(&r.URL)},
		field{name: "sentinel", to: pointer(&r.Sentinel, (*Sentinel).into)},
		field{name: "pool_size", to: whole(&r.PoolSize, math.MaxUint32)},
		field{name: "connection_timeout", to: span(&r.ConnectionTimeout)},
		field{name: "command_timeout", to: span(&r.CommandTimeout)},
		field{name: "cluster", to: boolean(&r.Cluster)},
		field{name: "key_prefix", to: text(&r.KeyPrefix)},
		field{name: "default_ttl", to: span(&r.DefaultTTL)},
		field{name: "compression", to: boolean(&r.Compression)},
	)
}

func (s *Sentinel) into() into {
	return mapping(
		field{name: "master", to: text(&s.Master)},
		field{name: "addresses", to: list(&s.Addresses, text)},
	)
}

func (f *Fallback) into() into {
	return mapping(
		field{name: "to_memory", to: boolean(&f.ToMemory)},
		field{name: "health_check_interval", to: span(&f.HealthCheckInterval)},
		field{name: "breaker", to: mapping(
			field{name: "failures", to: whole(&f.Breaker.Failures, math.MaxUint32)},
			field{name: "open_for", to: span(&f.Breaker.OpenFor)},
			field{name: "half_open_requests", to: whole(&f.Breaker.HalfOpenRequests, math.MaxUint32)},
		)},
	)
}

// unavailable reads a value for its own faults, then refuses it: weir would
// have to ignore it.
func unavailable(to into) into {
	return func(d *decoder, c cursor) {
		to(d, c)
		d.fail(c, "is not available in this version of weir", "remove it")
	}
}

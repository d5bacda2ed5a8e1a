package config

import (
	"fmt"
	"net/url"
	"time"
)

// Redis is the store that nodes share: where it is, and how it is used. Either
// URL or Sentinel is set.
type Redis struct {
	// URL is one address, or up to [MaxRedisNodes] of a cluster.
	URL []URL
	// Sentinel finds the master instead of URL; nil without sentinels.
	Sentinel *Sentinel
	// Username is the ACL user, empty: that of URL, or the default one.
	// PasswordFile has its password, see [ReadSecret]; empty: that of URL, or
	// none.
	Username, PasswordFile string
	// TLS says how a server proves what it is, of rediss URLs and of sentinels;
	// nil: by the machine's certificates, or with sentinels: no TLS.
	TLS *TLS
	// PoolSize is the number of connections to a server, 1 to
	// [MaxRedisConnections], default 10.
	PoolSize uint32
	// ConnectionTimeout bounds a connect (5s), CommandTimeout how long a
	// decision waits (10ms).
	ConnectionTimeout, CommandTimeout time.Duration
	// Cluster says that URL names nodes of a Redis cluster.
	Cluster bool
	// KeyPrefix starts every key, default "weir". Nodes share limits if they
	// share server and prefix.
	KeyPrefix string
	// DefaultTTL is the lifetime of a key without one of its own, default 1h.
	DefaultTTL time.Duration
	// Compression shrinks stored policies.
	Compression bool
	// LeaseShare is the part of a burst that all nodes together may hold in
	// leases, 0.01 to 1; default 0.1.
	LeaseShare float64
	// Interval is the time between two reports of the kernel's counts, 10ms to
	// 500ms, as package ratesync has it; default 100ms.
	Interval time.Duration
}

// What redis is bounded by, and its defaults.
const (
	MaxRedisNodes       = 64
	MaxSentinels        = 16
	MaxRedisConnections = 4096
	MaxRedisDatabase    = 1<<20 - 1
	MaxKeyPrefix        = 64 // bytes
	MinLeaseShare       = 0.01
	DefaultLeaseShare   = 0.1
)

// URL is an address that may hold a password, or be a secret as a whole. To
// print it prints what can be shown; string(u) is the whole.
type URL string

// String returns the address without user, password, query and, but for a
// socket or a database, path.
func (u URL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return "(a URL that is not shown)"
	}
	shown := url.URL{Scheme: parsed.Scheme, Host: parsed.Host}
	switch parsed.Scheme {
	case "redis", "rediss", "unix":
		shown.Path = parsed.Path
	}
	return shown.String()
}

// GoString returns what String does, for %#v.
func (u URL) GoString() string { return fmt.Sprintf("config.URL(%q)", u.String()) }

// MarshalText returns what String does, for JSON and logs.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// TLS says who is believed to be a server, and what this node shows of itself.
type TLS struct {
	// CA is a file with the certificates that sign servers, as PEM; empty: those
	// of the machine.
	CA string
	// Cert and Key are files with this node's certificate and its key, as PEM;
	// both or neither.
	Cert, Key string
	// ServerName is the name in the server's certificate; empty: that of its
	// address.
	ServerName string
}

// Sentinel is how to find a Redis master.
type Sentinel struct {
	// Master is the name that sentinels know it by.
	Master string
	// Addresses are the HOST:PORT of 1 to [MaxSentinels] sentinels.
	Addresses []string
	// Username and PasswordFile are for the sentinels themselves.
	Username, PasswordFile string
}

// Fallback says what happens while the store is away.
type Fallback struct {
	// ToMemory keeps limiting with local counts where a policy does not say
	// what else; default true. Without, requests of such policies are denied.
	ToMemory bool
	// HealthCheckInterval is the time between two probes, 1s to 1h, default 30s.
	HealthCheckInterval time.Duration
	// Breaker stops asking a store that fails.
	Breaker Breaker
	// Alert tells somebody; nil: log and metrics do.
	Alert *Alert
	// PolicyCache is the absolute path of the file that keeps the last policies
	// of the whole cluster, for a start without the store; empty: none is kept.
	// Default: see [DefaultPolicyCache]; empty without Redis.
	PolicyCache string
}

// Breaker is a circuit breaker.
type Breaker struct {
	// Failures in a row open it, 1 to 10000, default 5.
	Failures uint32
	// OpenFor is the time until it tries again, 10ms to 1h, default 1s.
	OpenFor time.Duration
	// HalfOpenRequests succeed before it closes, 1 to 10000, default 3.
	HalfOpenRequests uint32
}

// Alert is who is told that the store is away, or back.
type Alert struct {
	// Webhook is an http or https URL that is posted to. It may be a secret.
	Webhook URL
	// Timeout bounds one attempt, 100ms to 1m, default 2s.
	Timeout time.Duration
	// Tries is how often it is attempted, 1 to 10, default 4.
	Tries uint32
}

// DefaultPolicyCache is the file that keeps the policies of the cluster with a
// key prefix. It is not in the runtime directory, which a reboot empties: to
// come up while the store is down is what the file is for. The prefix keeps
// clusters apart on one host.
func DefaultPolicyCache(keyPrefix string) string {
	return "/var/lib/weir/policies-" + keyPrefix + ".json"
}

func defaultRedis() Redis {
	return Redis{
		PoolSize:          10,
		ConnectionTimeout: 5 * time.Second,
		CommandTimeout:    10 * time.Millisecond,
		KeyPrefix:         "weir",
		DefaultTTL:        time.Hour,
		LeaseShare:        DefaultLeaseShare,
		Interval:          100 * time.Millisecond,
	}
}

func defaultFallback() Fallback {
	return Fallback{
		ToMemory:            true,
		HealthCheckInterval: 30 * time.Second,
		Breaker:             Breaker{Failures: 5, OpenFor: time.Second, HalfOpenRequests: 3},
	}
}

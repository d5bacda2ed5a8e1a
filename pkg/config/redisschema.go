package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const day = 24 * time.Hour

func (r *Redis) fields() []field {
	return []field{
		{name: "url", to: redisURLs(&r.URL)},
		{name: "sentinel", to: pointer(&r.Sentinel, (*Sentinel).into)},
		{name: "username", to: nonEmpty(&r.Username)},
		{name: "password_file", to: nonEmpty(&r.PasswordFile)},
		{name: "tls", to: pointer(&r.TLS, (*TLS).into)},
		{name: "pool_size", to: within(whole(&r.PoolSize, MaxRedisConnections), &r.PoolSize, 1)},
		{name: "connection_timeout", to: spanWithin(&r.ConnectionTimeout, 10*time.Millisecond, time.Minute)},
		{name: "command_timeout", to: spanWithin(&r.CommandTimeout, time.Millisecond, 10*time.Second)},
		{name: "cluster", to: boolean(&r.Cluster)},
		{name: "key_prefix", to: keyPrefix(&r.KeyPrefix)},
		{name: "default_ttl", to: spanWithin(&r.DefaultTTL, time.Minute, 365*day)},
		{name: "compression", to: boolean(&r.Compression)},
		{name: "lease_share", to: fraction(&r.LeaseShare, MinLeaseShare, 1)},
		{name: "interval", to: spanWithin(&r.Interval, 10*time.Millisecond, 500*time.Millisecond)},
	}
}

func (r *Redis) into() into {
	*r = defaultRedis()
	return func(d *decoder, c cursor) {
		mapping(r.fields()...)(d, c)
		r.checkPlace(d, c)
		r.checkURLs(d, c)
		r.checkLogin(d, c)
		r.checkTLS(d, c)
	}
}

func (t *TLS) fields() []field {
	return []field{
		{name: "ca", to: nonEmpty(&t.CA)},
		{name: "cert", to: nonEmpty(&t.Cert)},
		{name: "key", to: nonEmpty(&t.Key)},
		{name: "server_name", to: nonEmpty(&t.ServerName)},
	}
}

func (t *TLS) into() into {
	return func(d *decoder, c cursor) {
		mapping(t.fields()...)(d, c)
		for _, f := range []struct{ has, wants string }{{"cert", "key"}, {"key", "cert"}} {
			path := join(c.path, f.wants)
			if d.has(join(c.path, f.has)) && !d.has(path) {
				d.failAt(d.position(c.path), path, fmt.Sprintf("is missing: there is a %s, which proves nothing without", f.has),
					fmt.Sprintf("add it, or remove %s", f.has))
			}
		}
		name := join(c.path, "server_name")
		if t.ServerName != "" && !d.unreadable(name) && !validHost(t.ServerName) && !validIP(t.ServerName) {
			d.failAt(d.position(name), name, fmt.Sprintf("%q cannot be the name in a certificate", t.ServerName), "write it such as redis.example.org")
		}
	}
}

func (s *Sentinel) fields() []field {
	return []field{
		{name: "master", to: nonEmpty(&s.Master), example: "master: mymaster"},
		{name: "addresses", to: atMost(&s.Addresses, MaxSentinels, hostPort), example: `addresses: ["10.0.0.1:26379"]`},
		{name: "username", to: nonEmpty(&s.Username)},
		{name: "password_file", to: nonEmpty(&s.PasswordFile)},
	}
}

func (s *Sentinel) into() into {
	return func(d *decoder, c cursor) {
		mapping(s.fields()...)(d, c)
		path := join(c.path, "addresses")
		if d.has(path) && len(s.Addresses) == 0 && !d.unreadable(path) {
			d.failAt(d.position(path), path, "names no sentinel", `add one, for example "10.0.0.1:26379"`)
		}
		d.checkTwice(path, s.Addresses)
		d.checkPassword(c.path, s.Username, s.PasswordFile)
	}
}

// checkTwice refuses an address that a list has before.
func (d *decoder) checkTwice(list string, addresses []string) {
	first := map[string]int{}
	for i, address := range addresses {
		path := fmt.Sprintf("%s[%d]", list, i)
		if j, taken := first[address]; taken && address != "" && !d.unreadable(path) {
			d.failAt(d.position(path), path, fmt.Sprintf("is %s[%d] again", list, j), "remove one of the two")
			continue
		}
		first[address] = i
	}
}

// checkPassword refuses a name without a password: nobody would be logged in by
// it, and the default user be taken instead.
func (d *decoder) checkPassword(mapping, username, file string) {
	path := join(mapping, "username")
	if username != "" && file == "" && !d.unreadable(path) && !d.unreadable(join(mapping, "password_file")) {
		d.failAt(d.position(path), path, "has no password, without which Redis logs nobody in", "add password_file, or remove username")
	}
}

func (f *Fallback) fields() []field {
	return []field{
		{name: "to_memory", to: boolean(&f.ToMemory)},
		{name: "health_check_interval", to: spanWithin(&f.HealthCheckInterval, time.Second, time.Hour)},
		{name: "breaker", to: mapping(f.Breaker.fields()...)},
		{name: "alert", to: pointer(&f.Alert, (*Alert).into)},
		{name: "policy_cache", to: absolutePath(&f.PolicyCache)},
	}
}

func (b *Breaker) fields() []field {
	const most = 10_000
	return []field{
		{name: "failures", to: within(whole(&b.Failures, most), &b.Failures, 1)},
		{name: "open_for", to: spanWithin(&b.OpenFor, 10*time.Millisecond, time.Hour)},
		{name: "half_open_requests", to: within(whole(&b.HalfOpenRequests, most), &b.HalfOpenRequests, 1)},
	}
}

func (a *Alert) fields() []field {
	return []field{
		{name: "webhook", to: webhook(&a.Webhook), example: "webhook: https://alerts.example.org/weir"},
		{name: "timeout", to: spanWithin(&a.Timeout, 100*time.Millisecond, time.Minute)},
		{name: "tries", to: within(whole(&a.Tries, 10), &a.Tries, 1)},
	}
}

func (a *Alert) into() into {
	*a = Alert{Timeout: 2 * time.Second, Tries: 4}
	return mapping(a.fields()...)
}

// checkStore refuses what of fallback somebody waits for that never comes without
// a store. The rest says what would be if there were one, and files that were
// made of older configurations have it.
func (c *Config) checkStore(d *decoder) {
	if d.has("redis") {
		if c.Redis != nil && !d.has("fallback.policy_cache") {
			c.Fallback.PolicyCache = DefaultPolicyCache(c.Redis.KeyPrefix)
		}
		return
	}
	for _, name := range []string{"alert", "policy_cache"} {
		if path := join("fallback", name); d.has(path) && !d.unreadable(path) {
			d.failAt(d.position(path), path, "is for a store that fails, and there is no redis", "remove it, or add redis")
		}
	}
}

// keyPrefix reads what every key begins with. Braces would be a hash tag, by
// which a cluster places keys.
func keyPrefix(to *string) into {
	return func(d *decoder, c cursor) {
		text(to)(d, c)
		const mend = `use 1 to 64 of a-z, A-Z, 0-9, "_", "-", "." and ":"`
		switch {
		case d.unreadable(c.path):
		case *to == "":
			d.fail(c, "must not be empty", mend)
		case len(*to) > MaxKeyPrefix:
			d.fail(c, fmt.Sprintf("has %d bytes", len(*to)), mend)
		case strings.Trim(strings.ToLower(*to), "abcdefghijklmnopqrstuvwxyz0123456789_-.:") != "":
			d.fail(c, fmt.Sprintf("%q has a character that a prefix cannot have", *to), mend)
		}
	}
}

// absolutePath reads the path of a file that is written, or an empty text for
// none. A relative one would be elsewhere for every way to start weir.
func absolutePath(to *string) into {
	return func(d *decoder, c cursor) {
		text(to)(d, c)
		switch {
		case d.unreadable(c.path) || *to == "":
		case !filepath.IsAbs(*to) || strings.HasSuffix(*to, "/") || strings.ContainsRune(*to, 0) || len(*to) > 1024:
			d.fail(c, "want the absolute path of a file", `write it such as /var/lib/weir/policies.json, or "" for none`)
		}
	}
}
